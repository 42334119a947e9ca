"""Run loads: once, or repeatedly (`--follow`)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import click

from pipeline.core import events
from pipeline.core.errors import PipelineError, WrongUse
from pipeline.core.log import get_logger
from pipeline.core.moments import whole_hour_us
from pipeline.core.runtime import Stop
from pipeline.core.stopping import ENDED_EARLY, Stopped
from pipeline.core.times import HOUR_US, from_us, us_to_iso
from producers.dukascopy.feeds.feed import Feed
from producers.dukascopy.instruments import Instrument
from producers.dukascopy.job import Job
from producers.dukascopy.loader import Asked, Loader
from producers.dukascopy.plan import PUBLISHED_AFTER_US, Open

GROUPS_SHOWN = 20


@dataclass(frozen=True)
class Request:
    """The requested interval as typed, before "now" is known."""

    start: str
    end: str | None
    start_name: str = "--from"

    @property
    def ends_now(self) -> bool:
        return self.end is None or not self.end.strip()[:1].isdigit()

    def span(self, instrument: Instrument, now: int) -> tuple[range, int]:
        """Return the hours (by start, µs), and the time from which they are optional: without `--to`, hours that are
        not published yet do not count as missing. Raises `WrongUse`."""
        first = whole_hour_us(self.start, now, self.start_name)
        if self.end is not None:
            last = optional = whole_hour_us(self.end, now, "--to")
        else:
            last = now - now % HOUR_US + HOUR_US
            optional = (now - PUBLISHED_AFTER_US) // HOUR_US * HOUR_US
        if first >= last:
            raise WrongUse(
                f"{self.start_name} {self.start} is not before --to {self.end or 'now'}; give an earlier one."
            )
        if instrument.first_tick_us is not None:
            first = max(first, instrument.first_tick_us // HOUR_US * HOUR_US)
        return range(first, last, HOUR_US), optional


def described(feed: Feed, instrument: Instrument) -> Instrument:
    """Return the instrument completed by the feed's description; unchanged if the feed does not answer."""
    try:
        return feed.described(instrument)
    except Stopped:
        return instrument
    except PipelineError as error:
        get_logger().warning(
            events.REQUEST_RETRY,
            product=instrument.product_id,
            error=str(error),
            text="continuing without the vendor's description (holidays)",
        )
        return instrument


def load_all(
    loader: Loader, instruments: Iterable[Instrument], request: Request, stop: Stop, *, follow: bool = False
) -> list[Job]:
    """Load the instruments one by one. An instrument's failure is in its job's `error` and does not affect the others.

    `follow`: hours from now on are requested too, and older requested ones that are missing are fetched as well.
    """
    jobs = []
    for instrument in instruments:
        if stop.is_set():
            break
        job = Job(instrument, (), 0)
        try:
            job = _job(loader, instrument, request, follow=follow) or job
            if job.hours:
                _load(loader, job)
        except Stopped:
            jobs.append(job)
            break
        except Exception as error:  # a failing ledger, or a bug of ours
            if stop.is_set():
                break
            if not isinstance(error, PipelineError):
                get_logger().exception(events.FAILED, product=instrument.product_id)
            job.error = " ".join(str(error).split()) or type(error).__name__
        jobs.append(job)
    return jobs


def _job(loader: Loader, instrument: Instrument, request: Request, *, follow: bool) -> Job | None:
    """Record the request in the ledger and return the job; None if there is nothing to do."""
    feed = loader.means.feed
    instrument = described(feed, instrument)
    if request.ends_now and feed.clock.vendor_us() is None:
        feed.learn_clock(instrument)  # "now" is by the vendor's clock
    span, optional_from_us = request.span(instrument, feed.clock.now_us())
    if not len(span):
        first = us_to_iso(instrument.first_tick_us or 0)
        get_logger().warning(events.LOAD_DONE, product=instrument.product_id, text=f"its first quote is from {first}")
        return None
    loader.record_request(instrument, Asked(span.start, min(span.stop, max(span.start, optional_from_us)), follow))
    older = loader.missing(instrument, span.start) if follow else []
    return Job(instrument, (span, *older), optional_from_us)


def _load(loader: Loader, job: Job) -> None:
    started = time.monotonic()
    try:
        loader.load(job)
    finally:
        stopped = {"text": ENDED_EARLY} if loader.stop.is_set() else {}
        get_logger().info(
            events.LOAD_DONE,
            product=job.instrument.product_id,
            hours=job.hours,
            hours_stored=job.published,
            quotes=job.quotes,
            hours_accounted_before=len(job.accounted - job.done.keys()),
            hours_open=len(job.open_hours),
            seconds=round(time.monotonic() - started, 2),
            **stopped,
        )


def report_open(jobs: Iterable[Job], *, to_stderr: bool) -> bool:
    """Report the missing hours with reason and time of the next attempt. Returns whether there are any."""
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
    """Group consecutive hours that are missing for the same reason, as text and as log fields."""
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
        text = f"{hours} missing from {from_us(first):%Y-%m-%d %H:%M}: {what.why}" + (
            f"; next attempt {again}" if again else ""
        )
        made.append((text, {"hours": count, "first": us_to_iso(first), "why": what.why, "next_try": again}))
    return made
