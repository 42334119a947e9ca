"""`python -m producers.dukascopy`: publish historical quotes to the topics quotes/dukascopy.*."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import click

from pipeline.broker.backpressure import Backpressure
from pipeline.broker.bootstrap import broker_when_ready
from pipeline.broker.client import Bus
from pipeline.core import events
from pipeline.core.errors import Unavailable, WrongUse
from pipeline.core.health import HealthServer
from pipeline.core.log import get_logger
from pipeline.core.programs import BY_NAME
from pipeline.core.progress import Progress
from pipeline.core.runtime import Stop, now_us, program
from pipeline.core.settings import (
    CommonSettings,
    DatabaseSettings,
    PulsarSettings,
    load,
)
from pipeline.database.migrate import database_when_ready
from producers.dukascopy.candles_check import check_candles as compare_candles
from producers.dukascopy.command import Request, load_all, report_open
from producers.dukascopy.dry_run import dry_run as dry_run_of
from producers.dukascopy.feeds.choose import open_feed
from producers.dukascopy.feeds.feed import Feed
from producers.dukascopy.follow import Following
from producers.dukascopy.instruments import Instrument, catalogue, chosen
from producers.dukascopy.loader import Loader
from producers.dukascopy.piece import Means
from venues.dukascopy.settings import DukascopySettings

# How long a load waits while nothing is stored, see `Loader`.
PATIENCE_S = 600.0
FOLLOW_PATIENCE_S = 60.0


@click.command()
@click.option("--instruments", metavar="LIST", help="Comma list or JSON list [DUKASCOPY_INSTRUMENTS].")
@click.option("--from", "start", metavar="WHEN", help="First hour: 2019-02-04, 2019-02-04T12, 7_days_ago, 1_year_ago.")
@click.option("--to", "end", metavar="WHEN", help="Hour after the last one [now].")
@click.option("--feed", metavar="FEED", help="auto, json, bi5 or a folder of bi5 files [DUKASCOPY_FEED].")
@click.option("--fill-gaps", is_flag=True, help="Fetch all missing hours from DUKASCOPY_FROM (or --from) up to now.")
@click.option("--follow", is_flag=True, help="Keep running and fetch new hours as they are published.")
@click.option("--dry-run", is_flag=True, help="Show what would be fetched, without fetching it.")
@click.option("--check-candles", is_flag=True, help="Only compare our minute candles with the vendor's.")
@click.option("--refetch", is_flag=True, help="Fetch stored hours again: the vendor corrects some.")
@click.option("--wait/--no-wait", default=True, help="Wait while another process loads the same instrument [wait].")
@program("dukascopy")
def main(
    instruments: str | None,
    start: str | None,
    end: str | None,
    feed: str | None,
    fill_gaps: bool,
    follow: bool,
    dry_run: bool,
    check_candles: bool,
    refetch: bool,
    wait: bool,
) -> int:
    """Fetch the hours of quotes that are missing in the ledger, and only those.

    The exit code is 0 if every requested hour is accounted for, otherwise 1; missing hours are listed with the reason
    and the time of the next attempt.
    """
    settings = load(DukascopySettings, instruments=instruments, feed=feed)
    if not (fill_gaps or follow or start or dry_run):
        raise WrongUse("nothing to fetch; give --fill-gaps, or --from 2019-02-04 --to 2019-02-05, or --follow.")
    if follow and (end or refetch or dry_run or check_candles):
        raise WrongUse("--follow runs forever; leave out --to, --refetch, --dry-run and --check-candles.")
    stop = Stop().listen()
    if follow and not settings.enabled:
        get_logger().info(events.DISABLED, text="DUKASCOPY_ENABLED is false")
        return 0
    wanted = chosen(settings.instruments, catalogue(settings.instruments_file))
    request = Request(start or settings.start, end, "--from" if start else "DUKASCOPY_FROM")
    for instrument in wanted:
        request.span(instrument, now_us())  # refuse invalid times before waiting for anything
    state_dir: Path = load(CommonSettings).state_dir
    source = open_feed(settings, state_dir, stop, read_cache=not refetch, called="--feed" if feed else "DUKASCOPY_FEED")
    database = load(DatabaseSettings)
    try:
        if dry_run:
            return dry_run_of(source, settings, database, wanted, request, refetch=refetch)
        if check_candles:
            return compare_candles(source, database, wanted, request, stop)
        return _run(settings, state_dir, source, wanted, request, stop, follow=follow, wait=wait, refetch=refetch)
    except Unavailable:
        if stop.is_set():
            return 1
        raise


def _give_way(feed: Feed) -> None:
    """Lower the priority of this process: live data and its writer go first.

    A network feed needs little CPU. A folder is read as fast as the machine can, so it gets half of the cores, and
    there only idle time. `nice` is not enough: Linux shares the CPU between sessions first (sched(7), "The autogroup
    feature"), and each PostgreSQL connection is a session. Measured in docs/benchmarks.md.
    """
    if feed.free:
        cores = sorted(os.sched_getaffinity(0))
        with suppress(PermissionError):  # not allowed in a container
            os.sched_setaffinity(0, cores[len(cores) // 2 :])
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(10)


def _run(
    settings: DukascopySettings,
    state_dir: Path,
    feed: Feed,
    wanted: list[Instrument],
    request: Request,
    stop: Stop,
    *,
    follow: bool,
    wait: bool,
    refetch: bool,
) -> int:
    _give_way(feed)
    broker, database = load(PulsarSettings), load(DatabaseSettings)
    bus = Bus(broker, stop)
    means = Means(
        feed,
        Backpressure(stop, [state_dir]),
        Progress("hours", "quotes", bars=False if follow else None),
        stop,
        # Measured: two threads on a folder deliver hours out of order, and the database needs 8 % more for its indexes.
        workers=1 if feed.free else settings.connections,
        confirm_us=int(settings.empty_confirm_seconds * 1e6),
    )
    # A single load waits long for an absent writer; with several instruments one must not hold up the others.
    patience_s = FOLLOW_PATIENCE_S if follow else PATIENCE_S / min(len(wanted), 5)
    loader = Loader(means, bus, database, wait_turn=wait, refetch=refetch, patience_s=patience_s)
    following = Following(loader, wanted, request, settings.poll_seconds, stop)
    server = HealthServer("dukascopy", BY_NAME["dukascopy"].port, following.report) if follow else None
    get_logger().info(
        events.STARTED, products=[one.product_id for one in wanted], feed=feed.name, health_port=server and server.port
    )
    try:
        following.waits_for("the broker")
        broker_when_ready(broker, stop)
        following.waits_for("the database")
        database_when_ready(database, stop)
        following.waits_for(None)
        if follow:
            following.run()
            return 0
        with means.progress:
            jobs = load_all(loader, wanted, request, stop)
        left = report_open(jobs, to_stderr=True)
        return 1 if left or stop.is_set() else 0
    finally:
        loader.close()
        bus.close()
        get_logger().info(events.STOPPED)


if __name__ == "__main__":
    main()
