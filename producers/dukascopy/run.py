"""A load as a program: once, or again and again (`--follow`)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import click

from pipeline import events
from pipeline.errors import PipelineError, WrongUse
from pipeline.ledger import from_us
from pipeline.log import get_logger
from pipeline.moments import whole_hour_us
from pipeline.process import Stop, now_us
from pipeline.times import us_to_iso
from producers.dukascopy import metrics
from producers.dukascopy.feed import Feed
from producers.dukascopy.instruments import VENUE, Instrument
from producers.dukascopy.job import Job
from producers.dukascopy.load import Loader
from producers.dukascopy.plan import PUBLISHED_AFTER_US, Open
from producers.dukascopy.quotes import HOUR_US
from producers.socket import Stopped

GROUPS_SHOWN = 20


@dataclass(frozen=True)
class Wish:
    """What the user asked for, before "now" and the instrument's first tick are known."""

    start: str
    end: str | None
    start_name: str = "--from"

    def span(self, instrument: Instrument) -> tuple[range, int]:
        """The hours, and from which on they are optional: without `--to`, what is not published yet is not missed."""
        now = now_us()
        first = whole_hour_us(self.start, now, self.start_name)
        if self.end is not None:
            last = optional = whole_hour_us(self.end, now, "--to")
        else:
            last = now - now % HOUR_US + HOUR_US
            optional = (now - PUBLISHED_AFTER_US) // HOUR_US * HOUR_US
        if first >= last:
            raise WrongUse(f"{self.start_name} {self.start} is not before --to {self.end or 'now'}.")
        if instrument.first_tick_us is not None:
            first = max(first, instrument.first_tick_us // HOUR_US * HOUR_US)
        return range(first, last, HOUR_US), optional


def described(feed: Feed, instrument: Instrument) -> Instrument:
    """The instrument with what the feed knows about it; without, where the feed does not answer."""
    try:
        return feed.described(instrument)
    except Stopped:
        return instrument
    except PipelineError as error:
        get_logger().warning(
            events.REQUEST_RETRY, product=instrument.product_id, error=str(error),
            text="going on without the vendor's description (holidays)",
        )  # fmt: skip
        return instrument


def load_all(loader: Loader, instruments: Iterable[Instrument], wish: Wish, stop: Stop) -> list[Job]:
    """One load of each instrument, in turn."""
    jobs = []
    for instrument in instruments:
        if stop.is_set():
            break
        instrument = described(loader.means.feed, instrument)
        span, optional_from_us = wish.span(instrument)
        if not len(span):
            first = us_to_iso(instrument.first_tick_us or 0)
            get_logger().warning(events.LOAD_DONE, product=instrument.product_id, text=f"its first quote is of {first}")
            continue
        job = Job(instrument, span, optional_from_us)
        started = time.monotonic()
        jobs.append(loader.load(job))
        get_logger().info(
            events.LOAD_DONE, product=instrument.product_id, hours=len(span), hours_stored=job.published,
            quotes=job.quotes, hours_accounted_before=len(job.accounted - job.done.keys()),
            hours_open=len(job.open_hours), seconds=round(time.monotonic() - started, 2),
        )  # fmt: skip
    return jobs


def report_open(jobs: Iterable[Job], *, to_stderr: bool) -> bool:
    """Say which hours are open, why, and when they are tried again. True when there are any."""
    found = False
    for job in jobs:
        if job.error:
            found = True
            get_logger().error(events.FAILED, product=job.instrument.product_id, error=job.error)
        groups = _groups(job.open_hours)
        found = found or bool(groups)
        for text, fields in groups[:GROUPS_SHOWN]:
            get_logger().warning(events.HOUR_OPEN, product=job.instrument.product_id, **fields)
            if to_stderr:
                click.echo(f"{job.instrument.symbol}: {text}", err=True)
        if len(groups) > GROUPS_SHOWN and to_stderr:
            rest = sum(fields["hours"] for _, fields in groups[GROUPS_SHOWN:])
            click.echo(f"{job.instrument.symbol}: and {rest} more hours", err=True)
    return found


def _groups(open_hours: dict[int, Open]) -> list[tuple[str, dict[str, Any]]]:
    """Runs of hours that are open for the same reason, as text and as fields."""
    groups: list[tuple[int, int, Open]] = []
    for hour_us, what in open_hours.items():
        if groups and groups[-1][1] == hour_us and groups[-1][2].why == what.why:
            first, _, before = groups[-1]
            tries = [t for t in (before.next_try_us, what.next_try_us) if t is not None]
            groups[-1] = (first, hour_us + HOUR_US, Open(what.why, max(tries, default=None)))
        else:
            groups.append((hour_us, hour_us + HOUR_US, what))
    made = []
    for first, end, what in groups:
        count = (end - first) // HOUR_US
        again = f"{from_us(what.next_try_us):%Y-%m-%d %H:%M:%S} UTC" if what.next_try_us else None
        hours = "1 hour" if count == 1 else f"{count} hours"
        text = f"{hours} open from {from_us(first):%Y-%m-%d %H:%M}: {what.why}" + (
            f"; next try {again}" if again else ""
        )
        made.append((text, {"hours": count, "first": us_to_iso(first), "why": what.why, "next_try": again}))
    return made


class Following:
    """`--follow`: looks again and again; well when the last successful look is not older than twice the pause."""

    def __init__(self, loader: Loader, instruments: list[Instrument], wish: Wish, poll_s: float, stop: Stop) -> None:
        self._loader, self._instruments, self._wish = loader, instruments, wish
        self._poll_s, self._stop = poll_s, stop
        self._well_at = time.monotonic()
        self._open: dict[str, int] = {}
        self._why = "first look under way"
        loader.on_progress = self._alive

    def _alive(self) -> None:
        """Hours are being stored: a long first load is no reason to be called ill."""
        self._well_at = time.monotonic()

    def run(self) -> None:
        while not self._stop.is_set():
            jobs = load_all(self._loader, self._instruments, self._wish, self._stop)
            if self._stop.is_set():
                break
            report_open(jobs, to_stderr=False)
            self._open = {job.instrument.product_id: len(job.open_hours) for job in jobs}
            errors = [why for job in jobs if (why := job.error or job.unproven)]
            down_s = self._loader.means.feed.wait_s()
            if not errors and not down_s:
                self._well_at = time.monotonic()
                metrics.LAST_POLL.labels(VENUE).set(time.time())
            self._why = errors[0] if errors else "the feed does not answer" if down_s else "all well"
            self._stop.wait(self._poll_s)

    def report(self) -> tuple[bool, dict[str, Any]]:
        age = time.monotonic() - self._well_at
        well = age <= 2 * self._poll_s
        body = {"last_success_age_s": round(age, 1), "interval_s": self._poll_s, "open_hours": self._open}
        return well, body | {"why": [self._why]}
