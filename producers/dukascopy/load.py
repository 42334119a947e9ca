"""Bringing hours onto their topic: plan, fetch, publish, and wait until the ledger shows them.

An instrument's load is cut into pieces of some seconds. A piece is done under the instrument's turn, so that two
processes never fetch the same hour, and ends when the writer has stored what was published. So it may be killed
anywhere: the ledger says what is left.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

from pipeline import events
from pipeline.bus import Bus, Publisher
from pipeline.database import Connection, connect_when_ready
from pipeline.errors import BadData, PipelineError
from pipeline.ledger import Hour, Ledger
from pipeline.log import get_logger
from pipeline.process import now_us
from pipeline.settings import DatabaseSettings
from pipeline.topics import topic_of
from producers.dukascopy import metrics
from producers.dukascopy.feeds import Feed, Fetched
from producers.dukascopy.gate import Gate
from producers.dukascopy.instruments import Instrument
from producers.dukascopy.plan import EMPTY_FINAL_AFTER_US, Open, Plan, Rules, make_plan
from producers.dukascopy.progress import Shown
from producers.dukascopy.quotes import HOUR_US, NO_QUOTES
from producers.dukascopy.web import Breaker
from producers.socket import Stopped
from schemas.columns import checksum, encode_quote_hour

VENUE = "dukascopy"
PIECE_S = 20.0
# Longer than a waiting process sleeps between two tries, so that it gets its turn.
LET_IN_S = 0.7
# More than a feed's breaker takes, so that even a lone hour changes over to the other feed.
TRIES = Breaker.AFTER + 1
# The ledger is read this far at a time: 20 years at once would be 50 MB.
WINDOW = 100 * 24
# Hours not yet confirmed by the broker; an hour has 60 kB on average and 6 MB at worst.
MAX_PENDING = 24
QUIET_S = 15.0
_RANK = {"present": 3, "partial": 2, "confirmed_empty": 1, "closed": 1, "seen_empty": 0}


@dataclass(frozen=True)
class Sent:
    """What was published about an hour, in the ledger's words."""

    state: str
    checksum: int
    fetched_at_us: int

    def shown_by(self, hour: Hour | None) -> bool:
        """Whether the ledger holds this, or something better."""
        if hour is None or _RANK[hour.state] != _RANK[self.state]:
            return hour is not None and _RANK[hour.state] > _RANK[self.state]
        return hour.checksum == self.checksum or hour.fetched_at_us >= self.fetched_at_us


@dataclass
class Job:
    """The load of one instrument over one span. `done`: hours that this run is through with, and what is open there."""

    instrument: Instrument
    span: range
    optional_from_us: int  # hours from here on are taken if they can be had, not missed otherwise
    done: dict[int, Open | None] = field(default_factory=dict)
    waiting: dict[int, Open] = field(default_factory=dict)
    sent: dict[int, Sent] = field(default_factory=dict)
    accounted: set[int] = field(default_factory=set)
    published: int = 0
    quotes: int = 0
    error: str | None = None

    @property
    def open_hours(self) -> dict[int, Open]:
        both: dict[int, Open | None] = {**self.waiting, **self.done}
        found = {hour: what for hour, what in both.items() if what is not None}
        return {hour: found[hour] for hour in sorted(found) if hour < self.optional_from_us}


class Loader:
    """Loads instruments one after the other with one connection to the database and one publisher at a time."""

    def __init__(
        self, feed: Feed, bus: Bus, database: DatabaseSettings, gate: Gate, shown: Shown, stop: threading.Event, *,
        workers: int, confirm_us: int, wait_turn: bool = True, refetch: bool = False,
    ) -> None:  # fmt: skip
        self.feed, self.shown, self.gate, self.stop = feed, shown, gate, stop
        self.workers, self.confirm_us = workers, confirm_us
        self._bus = bus
        self.on_progress: Callable[[], None] = lambda: None
        self._wait_turn, self._refetch = wait_turn, refetch
        self._database = database
        self._conn: Connection | None = None

    def _ledger(self) -> Ledger:
        if self._conn is None or self._conn.closed:
            self._conn = connect_when_ready(self._database, "dukascopy", self.stop)
        return Ledger(self._conn)

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()

    def load(self, job: Job) -> Job:
        """Everything that can be had now. Raises `Unavailable` only when stopped before it began."""
        self.shown.begin(job.instrument.product_id, len(job.span))
        for start in range(0, len(job.span), WINDOW):
            self._window(job, job.span[start : start + WINDOW])
        self._left_over(job)
        metrics.HOURS_OPEN.labels(VENUE, job.instrument.product_id).set(len(job.open_hours))
        return job

    def _window(self, job: Job, window: range) -> None:
        """One part of the span, piece by piece."""
        finished = False
        while not finished and not self.stop.is_set() and job.error is None:
            try:
                finished = self._piece(job, window)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                get_logger().warning(events.DATABASE_RETRY, on="ledger", error=str(error).strip())
                self.close()
                self._conn = None
                self.stop.wait(0.5)
                job.sent.clear()  # the ledger is asked again
            if not finished:
                self.stop.wait(LET_IN_S)

    def _left_over(self, job: Job) -> None:
        """Name what a stop or an error left undone; the ledger need not be asked for it."""
        why = job.error or ("stopped before it was its turn" if self.stop.is_set() else None)
        if why is not None:
            for hour_us in job.span:
                if not (hour_us in job.done or hour_us in job.accounted or hour_us in job.waiting):
                    job.done[hour_us] = Open(why)

    # -- one piece ----------------------------------------------------------------------------------------------------

    def _piece(self, job: Job, window: range) -> bool:
        """Some seconds of work in our turn. True when nothing is left to do."""
        name = job.instrument.product_id
        with self._ledger().turn(f"{VENUE} {name}", self.stop, wait=self._wait_turn) as mine:
            if not mine:
                job.error = None if self.stop.is_set() else "another process works on it (--no-wait)"
                return False
            self._settled(topic_of(self._bus.settings.tenant, "quotes", VENUE, name))
            known = self._ledger().quote_hours(VENUE, name, window.start, window.stop)
            rules = Rules(now_us(), self.confirm_us, self._refetch)
            plan = make_plan(job.instrument, self.feed, window, known, rules, job.done)
            self.shown.begin(name, -len((plan.accounted | plan.waiting.keys()) - job.accounted - job.waiting.keys()))
            job.waiting |= plan.waiting
            job.accounted |= plan.accounted
            if not (plan.ask or plan.closed or plan.running):
                return True
            publisher = self._bus.publisher(
                "quotes", VENUE, name, "quotes", "dukascopy-history", whole=True, max_pending=MAX_PENDING
            )
            try:
                work = _Work(self, job, plan, known, publisher)
                work.run()
                self._stored(job, publisher)
            finally:
                publisher.close()
            return work.finished and not publisher.failed

    def _settled(self, topic: str) -> None:
        """Wait until the writer is through with what an earlier run published, or is seen to do nothing."""
        least, since, said = None, time.monotonic(), False
        while not self.stop.is_set():
            try:
                behind = self.gate.messages_behind(topic)
            except (PipelineError, ValueError, KeyError):
                return  # no broker: the publisher waits for it
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

    def _stored(self, job: Job, publisher: Publisher) -> None:
        """Wait until the ledger shows what was published; what the writer refused is open."""
        while not self.stop.is_set() and publisher.pending and not publisher.failed:
            publisher.flush(0.5)
        if self.stop.is_set():
            publisher.flush(1.0)
        idle_since, said_at, pause = None, time.monotonic(), 0.05
        while job.sent and not self.stop.is_set():
            known = self._ledger().quote_hours(VENUE, job.instrument.product_id, min(job.sent), max(job.sent) + 1)
            for hour_us in [h for h, sent in job.sent.items() if sent.shown_by(known.get(h))]:
                del job.sent[hour_us]
                job.done.setdefault(hour_us, None)
                job.published += 1
                self.on_progress()
            if not job.sent or publisher.failed:
                break
            idle_since = (idle_since or time.monotonic()) if self._idle(publisher.topic) else None
            if idle_since is not None and time.monotonic() - idle_since > 3:
                for hour_us in job.sent:
                    job.done[hour_us] = Open("the writer refused it, see the topics dead-letters/*")
                break
            if time.monotonic() - said_at > 10:
                said_at = time.monotonic()
                get_logger().info(
                    events.WAITING, on="writer", text=f"{len(job.sent)} published hours are not stored yet"
                )
            self.stop.wait(pause)
            pause = min(0.5, pause * 1.5)
        job.sent.clear()

    def _idle(self, topic: str) -> bool:
        try:
            return self.gate.messages_behind(topic) == 0
        except (PipelineError, ValueError, KeyError):
            return False


class _Work:
    """The fetching and publishing of one piece, by several threads."""

    def __init__(self, loader: Loader, job: Job, plan: Plan, known: dict[int, Hour], publisher: Publisher) -> None:
        self._loader, self._job, self._known, self._publisher = loader, job, known, publisher
        self._feed, self._stop = loader.feed, loader.stop
        self._lock = threading.Lock()
        self._queue: deque[tuple[int, Callable[[int], None]]] = deque(
            [(h, self._closed) for h in plan.closed] + [(h, self._ask) for h in plan.ask]
            + [(h, self._running) for h in plan.running]
        )  # fmt: skip
        self._tries: dict[int, int] = {}
        self._busy = 0
        self._until = time.monotonic() + PIECE_S
        self.finished = False

    def run(self) -> None:
        """Until everything is done, the time is up, or the process is to stop."""
        count = min(self._loader.workers, len(self._queue))
        threads = [threading.Thread(target=self._worker, name=f"hours-{i}", daemon=True) for i in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive() and not self._stop.is_set():
                thread.join(0.1)
        if self._stop.is_set():  # who waits for an answer is left alone, it would take too long
            for thread in threads:
                thread.join(0.1)
        self.finished = not self._queue

    def _next(self) -> tuple[int, Callable[[int], None]] | None:
        """The next hour; None when there is none and none can come back."""
        while not self._stop.is_set() and self._job.error is None and time.monotonic() < self._until:
            with self._lock:
                if self._queue:
                    self._busy += 1
                    return self._queue.popleft()
                if not self._busy:
                    return None
            self._stop.wait(0.02)
        return None

    def _worker(self) -> None:
        while (item := self._next()) is not None:
            hour_us, do = item
            try:
                if self._loader.gate.wait(self._publisher.topic):
                    do(hour_us)
            except Stopped:
                return
            except BadData as error:  # of the whole instrument: its scale is wrong
                self._job.error = str(error)
            except PipelineError as error:
                self._failed(hour_us, do, error)
            except Exception as error:
                self._job.error = f"{type(error).__name__}: {error}"
            finally:
                with self._lock:
                    self._busy -= 1

    def _failed(self, hour_us: int, do: Callable[[int], None], error: PipelineError) -> None:
        """Once more later in this piece, or left open."""
        wait_s = self._feed.wait_s()
        with self._lock:
            self._tries[hour_us] = self._tries.get(hour_us, 0) + 1
            if error.retryable and not self._feed.free and not wait_s and self._tries[hour_us] < TRIES:
                self._queue.append((hour_us, do))
                return
            at = now_us() + int(max(wait_s, 60.0) * 1e6) if error.retryable and not self._feed.free else None
            why = str(error).split(": ", 1)[-1]  # without the address: an hour is named by its time
            self._job.done[hour_us] = Open(why, at)
            if wait_s:  # nobody answers: the rest need not find that out one by one
                for other, _ in self._queue:
                    self._job.done[other] = Open(why, at)
                self._queue.clear()

    # -- one hour -----------------------------------------------------------------------------------------------------

    def _closed(self, hour_us: int) -> None:
        self._publish(hour_us, Fetched("empty", NO_QUOTES, "calendar", now_us()), "closed")

    def _running(self, hour_us: int) -> None:
        found = self._feed.running_hour(self._job.instrument, hour_us)
        if len(found.quotes):
            self._publish(hour_us, found, "partial")
        else:
            self._job.done[hour_us] = Open("the running hour has no quotes yet")

    def _ask(self, hour_us: int) -> None:
        found = self._feed.hour(self._job.instrument, hour_us)
        if found.status == "ticks":
            self._publish(hour_us, found, "present")
        else:
            self._empty(hour_us, found)

    def _empty(self, hour_us: int, found: Fetched) -> None:
        """Nothing there. Final at once from a folder; from the network after a second look some time later."""
        known = self._known.get(hour_us)
        seen = known if known and known.state == "seen_empty" else None
        confirm_us = self._loader.confirm_us
        old = hour_us + HOUR_US + EMPTY_FINAL_AFTER_US <= found.fetched_at_us
        if self._feed.free or (seen and old and found.fetched_at_us - seen.fetched_at_us >= confirm_us):
            self._publish(hour_us, found, "confirmed_empty")
            return
        if seen is None:
            self._publish(hour_us, found, "seen_empty")
        again_us = found.fetched_at_us + confirm_us
        why = f"{found.feed} answers {found.status}, to be asked once more"
        self._job.done[hour_us] = Open(why, again_us)

    def _publish(self, hour_us: int, found: Fetched, state: str) -> None:
        instrument, quotes = self._job.instrument, found.quotes
        instrument.check_price(quotes)
        header = {
            "venue": VENUE,
            "product_id": instrument.product_id,
            "asset_class": instrument.asset_class,
            "origin": "history",
            "received_at_us": found.fetched_at_us,
            "hour_start_us": hour_us,
            "status": found.status,
            "feed": found.feed,
            "fetched_at_us": found.fetched_at_us,
            "final": state != "seen_empty",
            "price_scale": instrument.price_scale,
            "size_scale": quotes.size_scale,
        }
        columns = (quotes.offset_ms, quotes.bid, quotes.ask, quotes.bid_size, quotes.ask_size)
        data = encode_quote_hour(header, *columns)
        if not self._publisher.send(data, wait=True):
            raise Stopped
        with self._lock:
            self._job.sent[hour_us] = Sent(state, checksum(*columns[:3]), found.fetched_at_us)
            self._job.quotes += len(quotes)
        metrics.HOURS.labels(VENUE, instrument.product_id, found.status).inc()
        metrics.QUOTES.labels(VENUE, instrument.product_id).inc(len(quotes))
        self._loader.shown.hour(instrument.product_id, len(quotes))
