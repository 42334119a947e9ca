"""Back-fill of trades, for every venue with trade ids: `python -m producers.<venue> --historical`.

The request is an interval of time. REST gives its range of ids, the ledger says which of them are missing, and only
those are fetched, piece by piece. So a load can be stopped and restarted at any time, needs few requests when little is
missing, and is done when no id of the range is missing in the ledger.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import click
from tenacity import wait_exponential

from pipeline.broker.backpressure import Backpressure
from pipeline.broker.bootstrap import broker_when_ready
from pipeline.broker.client import Bus
from pipeline.broker.publisher import Publisher
from pipeline.core import events
from pipeline.core.errors import PipelineError, Unavailable
from pipeline.core.log import get_logger
from pipeline.core.progress import Progress, Task
from pipeline.core.retry import retry
from pipeline.core.runtime import Stop
from pipeline.core.settings import DatabaseSettings, GapFillerSettings, PulsarSettings, load
from pipeline.core.stopping import ENDED_EARLY, Stopped
from pipeline.database.connection import connect, connect_when_ready, transient
from pipeline.database.ledger import Ledger
from pipeline.database.migrate import database_when_ready
from pipeline.database.session import Session
from producers.history.request import Request, estimate, id_span
from venues import id_ranges
from venues.id_ranges import IdRange
from venues.registry import proof_of
from venues.trade_walk import ONE_WALK, REJECTED, UNREACHABLE, Filled, Filler, Source

# A piece of work holds the instrument's lock; the gap filler gets its turn between two pieces.
PIECE_S = 20.0
# The writer needs well under a second; if nothing is stored for this long, something is wrong with it.
LEDGER_PATIENCE_S = 120.0
POLL_S = 0.3
# Consecutive walks without any result before a product is given up.
MOST_IDLE = 5


def run_load(source: Source, request: Request, stop: Stop) -> int:
    """Load product by product until stopped. Returns the exit code: 1 if trades of the request are still missing."""
    database = load(DatabaseSettings)
    if request.dry_run:
        with connect(database, f"{source.venue}-history", read_only=True) as reading:
            return estimate(source, request, Ledger(reading))
    database_when_ready(database, stop)
    session = Session(lambda: connect_when_ready(database, f"{source.venue}-history", stop))
    settings = load(PulsarSettings)
    broker_when_ready(settings, stop)
    bus = Bus(settings, stop)
    try:
        loader = _Load(source, request, stop, bus, session)
        return max([loader.load(product) for product in request.products])
    except (Stopped, Unavailable):
        if not stop.is_set():
            raise
        get_logger().warning(events.STOPPED, text=ENDED_EARLY)
        return 1
    finally:
        bus.close()
        session.close()


def retry_on_database_errors(work: Callable[[], int], session: Session, stop: threading.Event) -> int:
    """Return the result of `work`, which is restarted on a new connection after each transient error: the ledger knows
    what is left. Raises `Stopped`."""

    def log_retry(error: BaseException, seconds: float) -> None:
        get_logger().warning(events.DATABASE_RETRY, error=" ".join(str(error).split()), retry_in_s=seconds)
        session.close()

    return retry(work, stop, retry_on=transient, wait=wait_exponential(multiplier=0.5, max=10), before_wait=log_retry)


def flush(publisher: Publisher, product: str, stop: threading.Event) -> None:
    """Wait until the broker has confirmed every message. Raises `Stopped`, or `Unavailable` for a refused one."""
    while not publisher.flush(1.0) and publisher.pending:
        if stop.is_set():
            raise Stopped
    if publisher.failed:
        raise Unavailable(f"the broker refused {publisher.failed} messages of {product}; run it again")


class _Load:
    """One run of the command. Used by the main thread."""

    def __init__(self, source: Source, request: Request, stop: threading.Event, bus: Bus, session: Session) -> None:
        self._source, self._request, self._stop, self._bus, self._session = source, request, stop, bus, session
        self._log = get_logger().bind(venue=source.venue)
        self._publishers: dict[str, Publisher] = {}
        self._findings: dict[tuple[str, str], list[IdRange]] = {}
        self._backpressure = Backpressure(stop)
        gaps = load(GapFillerSettings)
        self._confirm_s = gaps.confirm_seconds
        self._filler = Filler(source, self._publisher, "history", gaps.confirm_seconds)

    def _publisher(self, product: str) -> Publisher:
        if product not in self._publishers:
            # A unique name, so that two loads of one product take turns instead of locking each other out.
            name = self._bus.own_name(f"{self._source.venue}-history")
            self._publishers[product] = self._bus.publisher(
                "trades", self._source.venue, product, schema="trades", name=name
            )
        return self._publishers[product]

    def load(self, product: str) -> int:
        """Load one product, again if the database was lost; its errors do not affect the others. Returns 0 if every
        trade is accounted for."""
        try:
            return retry_on_database_errors(lambda: self._product(product), self._session, self._stop)
        except PipelineError as error:
            if self._stop.is_set():
                raise
            self._log.error(events.LOAD_DONE, product=product, error=str(error), kind=type(error).__name__)
            click.echo(f"{product}: {error}", err=True)
            return 1

    def _product(self, product: str) -> int:
        span = id_span(self._source, self._request, product)
        if span is None:
            self._log.info(events.LOAD_DONE, product=product, trades=0, text="no trades in this interval")
            return 0
        venue = self._source.venue
        self._ledger().ask_ids(venue, product, self._filler.asset_class, proof_of(venue), *span)
        missing = self._missing(product, span)
        asked = span[1] - span[0] + 1
        with Progress("trades", "trades") as progress:
            name = f"{venue} {product}"
            task = progress.expect(name, asked, already=asked - id_ranges.size(missing))
            try:
                open_ids = self._fetch(product, span, missing, lambda rows: progress.advance(name, rows))
                if product in self._publishers:
                    flush(self._publishers[product], product, self._stop)
            except (Stopped, Unavailable):
                if self._stop.is_set():
                    self._log_stopped(product, task)
                    if progress.on_terminal:
                        click.echo(f"{product}: {task.rows:,} trades loaded of {task.total:,}; {ENDED_EARLY}", err=True)
                raise
        self._log.info(
            events.LOAD_DONE,
            product=product,
            trades=asked,
            first_id=span[0],
            last_id=span[1],
            open=id_ranges.size(open_ids),
            rows_per_s=round(task.rows_per_s),
        )
        for first, last in open_ids:
            click.echo(
                f"{product}: trades {first} to {last} are still missing; the gap filler retries within a minute",
                err=True,
            )
        lost = [span for reason in (UNREACHABLE, REJECTED) for span in self._findings.get((product, reason), [])]
        for first, last in lost:
            click.echo(
                f"{product}: trades {first} to {last} exist but cannot be loaded: the venue's REST interface cannot"
                " reach them, or returns them in a form that cannot be stored",
                err=True,
            )
        return 1 if open_ids or lost else 0

    def _log_stopped(self, product: str, task: Task) -> None:
        """Log what was fetched before the stop. It is published, or queued and flushed before the program ends."""
        self._log.info(
            events.LOAD_DONE,
            product=product,
            trades=task.total,
            loaded=task.rows,
            open=max(0, task.total - task.done),
            rows_per_s=round(task.rows_per_s),
            text=ENDED_EARLY,
        )

    def _fetch(
        self, product: str, span: IdRange, missing: list[IdRange], on_rows: Callable[[int], None]
    ) -> list[IdRange]:
        """Fetch until nothing is missing; returns the ranges still missing."""
        given: list[IdRange] = []  # published or explained; not requested again in this run
        waits: list[tuple[IdRange, float]] = []  # not in the answers; when to look again
        idle = 0  # consecutive walks without any result
        while left := id_ranges.without(missing, given):
            now = time.monotonic()
            ready = id_ranges.without(left, [wait for wait, at in waits if at > now])
            if not ready:
                self._pause(min(at for _, at in waits) - now, product, left)
                missing = self._missing(product, span)
                continue
            turn = f"{self._source.venue} {product}"
            with self._ledger().turn(turn, self._stop, wait=self._request.wait_for_turn) as mine:
                if not mine:
                    if self._stop.is_set():
                        raise Stopped
                    self._log.warning(events.WAITING, on=f"turn of {turn}", text="skipped: loaded by another process")
                    return left
                self._backpressure.wait(self._publisher(product).topic)
                cluster = id_ranges.newest_cluster(ready, ONE_WALK)
                before_us = self._before_us(product, cluster[0][0])
                filled = self._filler.fill(
                    product, cluster, before_us, self._request.to_us, budget_s=PIECE_S, on_rows=on_rows
                )
                came = id_ranges.merged([*filled.published, *filled.explained])
                given = id_ranges.merged([*given, *came])
                retry_at = time.monotonic() + self._confirm_s
                unseen = id_ranges.without(cluster, came) if filled.complete else []
                waits = [(w, at) for w, at in waits if at > now] + [(w, retry_at) for w in unseen]
                idle = 0 if came or filled.waiting else idle + 1
                if idle > MOST_IDLE:
                    self._log.error(events.REQUEST_FAILED, product=product, error="the answers make no progress")
                    return left
                if self._request.wait_for_ledger:
                    self._wait_for_ledger(product, filled)
            missing = self._missing(product, span) if self._request.wait_for_ledger else missing
        return id_ranges.without(self._missing(product, span), given if not self._request.wait_for_ledger else [])

    def _before_us(self, product: str, first_id: int) -> int:
        """Return a time in µs at or before the trade: that of the stored trade before it, or the request's start."""
        before = self._ledger().trade_before(self._source.venue, product, first_id)
        return max(self._request.from_us, before[1] if before else 0)

    def _pause(self, seconds: float, product: str, left: list[IdRange]) -> None:
        """Wait for the time of the second look. Raises `Stopped`."""
        self._log.info(
            events.WAITING,
            on="a second answer",
            product=product,
            ids=id_ranges.size(left),
            seconds=round(seconds),
            text="the venue does not return these ids; a second answer that agrees is recorded as the reason",
        )
        if self._stop.wait(max(0.1, seconds)):
            raise Stopped

    def _wait_for_ledger(self, product: str, filled: Filled) -> None:
        """Wait until what was published is stored and the findings are signed. Raises `Unavailable` after
        `LEDGER_PATIENCE_S` without progress."""
        for reason, found in filled.findings.items():
            self._findings[product, reason] = id_ranges.merged([*self._findings.get((product, reason), []), *found])
        published = id_ranges.merged([*filled.published, *filled.explained])
        if not published:
            return
        until, open_before, said = time.monotonic() + LEDGER_PATIENCE_S, -1, False
        while open_ids := id_ranges.common(self._missing(product, (published[0][0], published[-1][1])), published):
            for reason, found in filled.findings.items():  # confirmed by two looks: signing makes the claims count
                self._ledger().sign(self._source.venue, product, found, reason)
            now = time.monotonic()
            if id_ranges.size(open_ids) != open_before:
                open_before, until = id_ranges.size(open_ids), now + LEDGER_PATIENCE_S
            if now > until:
                raise Unavailable(
                    f"{open_before} trades of {product} were published but are not stored after"
                    f" {LEDGER_PATIENCE_S:.0f} s; is `python -m consumers.trades` running?"
                )
            if not said and now > until - LEDGER_PATIENCE_S + 10:
                self._log.warning(events.WAITING, on="the trades writer", product=product, ids=open_before)
                said = True
            if self._stop.wait(POLL_S):
                raise Stopped

    def _missing(self, product: str, span: IdRange) -> list[IdRange]:
        return self._ledger().missing_ids(self._source.venue, product, *span)

    def _ledger(self) -> Ledger:
        return Ledger(self._session.connection())
