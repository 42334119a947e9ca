"""Load hours: plan, fetch, publish, and wait until the ledger shows them.

A load is divided into pieces of some seconds. A piece runs under the instrument's lock, so that two processes never
fetch the same hour, and ends when the writer has stored what was published. So a load may be killed at any point: the
ledger shows what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import psycopg
from tenacity import wait_fixed

from pipeline.broker.client import Bus
from pipeline.broker.topics import topic_of
from pipeline.core import events
from pipeline.core.errors import PipelineError
from pipeline.core.log import get_logger
from pipeline.core.retry import retry
from pipeline.core.settings import DatabaseSettings
from pipeline.core.times import HOUR_US, from_us
from pipeline.database.connection import connect_when_ready
from pipeline.database.hour_order import EMPTY_FINAL_AFTER_US
from pipeline.database.ledger import Hour, Ledger
from pipeline.database.session import Session
from pipeline.database.sql import statement
from producers.dukascopy import metrics
from producers.dukascopy.calendar import busy_hours
from producers.dukascopy.instruments import VENUE, Instrument
from producers.dukascopy.job import Job
from producers.dukascopy.looks import Looks
from producers.dukascopy.piece import Means, Piece
from producers.dukascopy.plan import Open, Plan, Rules, make_plan
from producers.dukascopy.storing import Storing
from venues.dukascopy.adapter import ADAPTER

# Longer than a waiting process sleeps between two attempts to lock, so that it gets its turn.
LET_IN_S = 0.7
# Hours of the ledger read at once: 20 years would be 50 MB.
WINDOW = 100 * 24
# Limit of hours not yet confirmed by the broker; an hour has 60 kB on average and 6 MB at worst.
MAX_PENDING = 24
QUIET_S, LEDGER_TRIES, LEDGER_PAUSE_S = 15.0, 5, 0.5
_LOST = (psycopg.OperationalError, psycopg.InterfaceError)
T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """A request for the hours of `[from_us, to_us)`; with `follow` also for every later one."""

    from_us: int
    to_us: int
    follow: bool


class Loader:
    """Loads instruments one after another, with one database connection and one publisher at a time.

    `patience_s`: an instrument is given up if nothing of it is stored for this long because of the writer or the
    broker, so that it does not hold up the others.
    """

    def __init__(
        self,
        means: Means,
        bus: Bus,
        database: DatabaseSettings,
        *,
        wait_turn: bool = True,
        refetch: bool = False,
        patience_s: float = 600.0,
    ) -> None:
        self.means, self.stop = means, means.stop
        self._bus = bus
        self.on_progress: Callable[[], None] = lambda: None
        self._wait_turn, self._refetch, self._patience_s = wait_turn, refetch, patience_s
        self._session = Session(lambda: connect_when_ready(database, "dukascopy", self.stop))
        self._looks = Looks(database)
        self._storing = Storing(means, self._ledger, patience_s, lambda: self.on_progress())

    def _ledger(self) -> Ledger:
        return Ledger(self._session.connection())

    def close(self) -> None:
        self._looks.close()
        self._session.close()

    def record_request(self, instrument: Instrument, asked: Asked) -> None:
        """Record the request in the ledger. Call it before anything is fetched."""
        whose = VENUE, instrument.product_id, instrument.asset_class, ADAPTER.proof
        self._with_ledger(lambda ledger: ledger.ask_hours(*whose, asked.from_us, asked.to_us, follow=asked.follow))

    def missing(self, instrument: Instrument, before_us: int) -> list[range]:
        """Return requested hours before this time that are not accounted for."""
        values = {"venue": VENUE, "product": instrument.product_id, "before": from_us(before_us)}
        query = statement("quote_hours_missing")
        found = self._with_ledger(lambda _: self._session.connection().execute(query, values).fetchall())
        first_us = (instrument.first_tick_us or 0) // HOUR_US * HOUR_US
        runs = [range(max(begin_us, first_us), end_us, HOUR_US) for begin_us, end_us in found]
        return [run for run in runs if len(run)]

    def _with_ledger(self, do: Callable[[Ledger], T]) -> T:
        """Call `do`, retrying a few times on a new connection. Raises the last error, or `Stopped`."""
        wait, lost = wait_fixed(LEDGER_PAUSE_S), self._lost
        return retry(
            lambda: do(self._ledger()), self.stop, retry_on=_LOST, wait=wait, attempts=LEDGER_TRIES, before_wait=lost
        )

    def _lost(self, error: BaseException, _seconds: float = LEDGER_PAUSE_S) -> None:
        get_logger().warning(events.DATABASE_RETRY, on="ledger", error=str(error).strip())
        self.close()

    def load(self, job: Job) -> Job:
        """Load everything available now. Raises `Unavailable` only if stopped before it started."""
        self.means.progress.expect(job.instrument.product_id, job.hours)
        try:
            for span in job.spans:
                for start in range(0, len(span), WINDOW):
                    self._window(job, span[start : start + WINDOW])
        finally:  # a stop may end it anywhere
            self._mark_left_over(job)
        metrics.HOURS_OPEN.labels(VENUE, job.instrument.product_id).set(len(job.open_hours))
        return job

    def _window(self, job: Job, window: range) -> None:
        """Load one part of the job, piece by piece."""
        finished, lost = False, 0
        before, moved_at = job.progress, time.monotonic()
        while not finished and not self.stop.is_set() and job.error is None:
            try:
                finished = self._piece(job, window)
                lost = 0
            except _LOST as error:
                self._lost(error)
                self.stop.wait(LEDGER_PAUSE_S)
                job.sent.clear()  # the ledger is read again
                lost, moved_at = lost + 1, time.monotonic()
                if lost >= LEDGER_TRIES:
                    job.error = f"the ledger cannot be read: {' '.join(str(error).split())}"
            now = job.progress
            if now != before:
                before, moved_at = now, time.monotonic()
            elif not finished and time.monotonic() - moved_at > self._patience_s:
                job.error = job.error or self.means.backpressure.why or "nothing could be published"
            if not finished:
                self.stop.wait(LET_IN_S)

    def _mark_left_over(self, job: Job) -> None:
        """Mark the hours that a stop or an error left undone."""
        why = job.error or ("stopped before it was its turn" if self.stop.is_set() else None)
        if why is not None:
            for hour_us in chain.from_iterable(job.spans):
                if not (hour_us in job.done or hour_us in job.accounted or hour_us in job.waiting):
                    job.done[hour_us] = Open(why)

    def _piece(self, job: Job, window: range) -> bool:
        """Work for some seconds under the instrument's lock. Returns True when nothing is left to do."""
        name = job.instrument.product_id
        with self._ledger().turn(f"{VENUE} {name}", self.stop, wait=self._wait_turn) as mine:
            if not mine:
                job.error = None if self.stop.is_set() else "another process is loading it (--no-wait)"
                return False
            self._wait_for_writer(topic_of(self._bus.settings.tenant, "quotes", VENUE, name))
            known = self._ledger().quote_hours(VENUE, name, window.start, window.stop)
            plan = self._plan(job, window, known)
            self.means.progress.expect(
                name, -len((plan.accounted | plan.waiting.keys()) - job.accounted - job.waiting.keys())
            )
            job.waiting |= plan.waiting
            job.accounted |= plan.accounted
            if not (plan.ask or plan.closed or plan.running):
                return True
            publisher = self._bus.publisher(
                "quotes", VENUE, name, "quotes", "dukascopy-history", whole=True, max_pending=MAX_PENDING
            )
            try:
                piece = Piece(self.means, job, plan, known, publisher, self._looks)
                piece.run()
                if not self.stop.is_set():
                    piece.settle(lambda: self._with_quotes(job.instrument))
                self._storing.wait(job, publisher)
            finally:
                publisher.close()
            return piece.finished and not publisher.failed

    def _plan(self, job: Job, window: range, known: Mapping[int, Hour]) -> Plan:
        feed = self.means.feed

        def made() -> Plan:
            rules = Rules(feed.clock.now_us(), self.means.confirm_us, self._refetch, frozenset(job.not_closed))
            return make_plan(job.instrument, feed, window, known, rules, job.done)

        plan = made()
        if plan.waiting and not feed.free and feed.clock.vendor_us() is None:
            feed.learn_clock(job.instrument)  # too early by our clock, which may be wrong
            plan = made()
        return plan

    def _with_quotes(self, instrument: Instrument) -> list[int]:
        """Return hours (µs) for which every feed must have quotes: the newest stored one that is old enough, and busy
        ones."""
        before_us = self.means.feed.clock.now_us() - EMPTY_FINAL_AFTER_US
        stored = self._ledger().newest_quote_hours(VENUE, instrument.product_id, before_us, 1)
        return [*stored, *busy_hours(instrument, before_us, 2)]

    def _wait_for_writer(self, topic: str) -> None:
        """Wait until the writer has stored what an earlier run published, or makes no progress."""
        least, since, said = None, time.monotonic(), False
        while not self.stop.is_set():
            try:
                behind = self.means.backpressure.messages_behind(topic)
            except (PipelineError, ValueError, KeyError):
                return  # no broker: the publisher will wait for it
            if not behind:
                return
            if least is None or behind < least:
                least, since = behind, time.monotonic()
            if time.monotonic() - since > QUIET_S:
                get_logger().warning(events.WAITING, on="writer", text=f"{behind} messages of {topic} are not stored")
                return
            if not said and time.monotonic() - since > 1:
                said = True
                get_logger().info(events.WAITING, on="writer", text=f"{behind} messages of an earlier run")
            self.stop.wait(0.25)
