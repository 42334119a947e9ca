"""Some seconds of an instrument's load: its hours are fetched and published by several threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.broker.backpressure import Backpressure
from pipeline.broker.publisher import Publisher
from pipeline.core import events
from pipeline.core.errors import BadData, PipelineError, Unavailable
from pipeline.core.log import get_logger
from pipeline.core.stopping import Stopped
from pipeline.core.times import HOUR_US, us_to_iso
from pipeline.database.ledger import Hour
from producers.dukascopy import metrics
from producers.dukascopy.feeds.feed import Feed, Fetched, reason
from producers.dukascopy.feeds.web import TRIES
from producers.dukascopy.instruments import VENUE
from producers.dukascopy.job import Job, Sent
from producers.dukascopy.looks import Looks
from producers.dukascopy.plan import Open, Plan
from producers.dukascopy.progress import Shown
from producers.dukascopy.quotes import NO_QUOTES
from schemas.columns import checksum, encode_quote_hour
from schemas.records import HourHeader
from venues.market_hours import EMPTY_FINAL_AFTER_US

PIECE_S = 20.0


@dataclass(frozen=True)
class Means:
    """What loads work with. `confirm_us`: distance in time of the two looks that make an hour empty."""

    feed: Feed
    backpressure: Backpressure
    shown: Shown
    stop: threading.Event
    workers: int
    confirm_us: int


class Piece:
    """`run`, then `settle`. `finished`: nothing of the plan is left to be asked."""

    def __init__(
        self,
        means: Means,
        job: Job,
        plan: Plan,
        known: dict[int, Hour],
        publisher: Publisher,
        looks: Looks,
    ) -> None:
        self._means, self._job, self._known, self._publisher = means, job, known, publisher
        self._looks = looks
        self._feed, self._stop = means.feed, means.stop
        self._lock = threading.Lock()
        self._queue: deque[tuple[int, Callable[[int], None]]] = deque(
            [(h, self._closed) for h in plan.closed]
            + [(h, self._ask) for h in plan.ask]
            + [(h, self._running) for h in plan.running]
        )
        self._tries: dict[int, int] = {}
        self._empty: dict[int, Fetched] = {}  # hours called empty that are not believed without a proof
        self._busy = 0
        self._until = time.monotonic() + PIECE_S
        self.finished = False

    def run(self) -> None:
        """Until everything is done, the time is up, or the process is to stop."""
        count = min(self._means.workers, len(self._queue))
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
                if not self._means.backpressure.wait(self._publisher.topic, self._until):
                    with self._lock:
                        self._queue.appendleft(item)
                    return
                do(hour_us)
            except Stopped:
                return
            except BadData as error:
                self._unusable(hour_us, str(error))
            except PipelineError as error:
                self._failed(hour_us, do, error)
            except Exception as error:  # ours or a library's: it costs the hour, not the others
                get_logger().exception(events.FAILED, product=self._job.instrument.product_id, hour=us_to_iso(hour_us))
                self._unusable(hour_us, f"{type(error).__name__}: {error}")
            finally:
                with self._lock:
                    self._busy -= 1

    def _unusable(self, hour_us: int, why: str) -> None:
        with self._lock:
            self._job.unusable(hour_us, why)

    def _failed(self, hour_us: int, do: Callable[[int], None], error: PipelineError) -> None:
        """Once more later in this piece, or left open."""
        wait_s = self._feed.wait_s(self._job.instrument)
        with self._lock:
            self._tries[hour_us] = self._tries.get(hour_us, 0) + 1
            if error.retryable and not self._feed.free and not wait_s and self._tries[hour_us] < TRIES:
                self._queue.append((hour_us, do))
                return
            again_us = int(max(wait_s, 60.0) * 1e6)
            at = self._feed.clock.now_us() + again_us if error.retryable and not self._feed.free else None
            why = reason(error)
            self._job.done[hour_us] = Open(why, at)
            self._job.failed[hour_us] = why
            if wait_s:  # nobody answers: the rest need not find that out one by one
                for other, do_other in self._queue:
                    if do_other == self._closed:
                        continue
                    self._job.done[other] = Open(why, at)
                    self._job.failed[other] = why
                self._queue = deque(item for item in self._queue if item[1] == self._closed)

    # -- one hour -----------------------------------------------------------------------------------------------------

    def _closed(self, hour_us: int) -> None:
        self._publish(hour_us, Fetched("empty", NO_QUOTES, "calendar", self._feed.clock.now_us()), "closed")

    def _running(self, hour_us: int) -> None:
        found = self._feed.running_hour(self._job.instrument, hour_us)
        self._answered()
        if len(found.quotes):
            self._publish(hour_us, found, "partial")
        else:
            self._job.done[hour_us] = Open("the running hour has no quotes yet")

    def _ask(self, hour_us: int) -> None:
        known = self._known.get(hour_us)
        # An hour that is not whole yet is looked at, not taken from the disk.
        found = self._feed.hour(self._job.instrument, hour_us, fresh=known is not None and known.state == "partial")
        self._answered()
        if found.status == "ticks":
            self._publish(hour_us, found, "present")
        elif not found.despite and self._feed.proven(self._job.instrument, found.feed):
            self._nothing(hour_us, found)
        else:
            with self._lock:
                self._empty[hour_us] = found

    def _answered(self) -> None:
        with self._lock:
            self._job.answered += 1

    def settle(self, with_quotes: Callable[[], Sequence[int]]) -> None:
        """Believe the empty answers that are left, or do not. `with_quotes`: hours that have some, to be asked for if
        the feed gave none meanwhile."""
        instrument = self._job.instrument
        asked: dict[str, bool] = {}

        def works(name: str) -> bool:
            if name not in asked:
                asked[name] = self._feed.proven(instrument, name) or self._feed.prove(instrument, name, with_quotes())
            return asked[name]

        try:
            for hour_us, found in self._empty.items():
                self._settle(hour_us, found, works)
        except Stopped:
            return

    def _settle(self, hour_us: int, found: Fetched, works: Callable[[str], bool]) -> None:
        """`works`: whether a feed gives quotes of hours that have some."""
        damaged = next((f"{name}: {why}" for name, why in found.despite.items() if works(name)), None)
        if damaged:  # it is the hour's own damage, so there is something
            why = f"{damaged}; {found.feed}: not there (404)"
            self._job.done[hour_us] = Open(why, found.fetched_at_us + self._means.confirm_us)
            self._job.failed[hour_us] = why
        elif works(found.feed):
            self._nothing(hour_us, found)
        elif self._feed.spare(self._job.instrument):
            self.finished = False  # the next piece asks the other feed for it
        else:
            self._job.unproven = f"the {found.feed} feed gives no quotes even for hours that have some: not believed"
            self._job.done[hour_us] = Open(self._job.unproven, found.fetched_at_us + self._means.confirm_us)

    def _nothing(self, hour_us: int, found: Fetched) -> None:
        """Nothing there. Final at once from a folder, whose file of zero length is the vendor's own; from the network
        after a second look some time later, where the hour is old enough by the vendor's clock and by ours."""
        self._looks.note(self._job.instrument, hour_us, sure=self._feed.free)
        known = self._known.get(hour_us)
        seen = known if known and known.state == "seen_empty" else None
        confirm_us = self._means.confirm_us
        sure_us = self._feed.clock.sure_us()
        old = sure_us is not None and hour_us + HOUR_US + EMPTY_FINAL_AFTER_US <= sure_us
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
        # A clock that was set back must not make what was fetched now the older of the two.
        known = self._known.get(hour_us)
        fetched_at_us = found.fetched_at_us
        if known is not None and not found.kept:
            fetched_at_us = max(fetched_at_us, known.fetched_at_us + 1)
        header = HourHeader(
            venue=VENUE,
            product_id=instrument.product_id,
            asset_class=instrument.asset_class,
            origin="history",
            received_at_us=found.fetched_at_us,
            hour_start_us=hour_us,
            status=found.status,
            feed=found.feed,
            fetched_at_us=fetched_at_us,
            final=state != "seen_empty",
            price_scale=instrument.price_scale,
            size_scale=quotes.size_scale,
        )
        columns = (quotes.offset_ms, quotes.bid, quotes.ask, quotes.bid_size, quotes.ask_size)
        data = encode_quote_hour(header, *columns)
        if not self._publisher.send(data, wait=True):
            if self._stop.is_set():
                raise Stopped
            raise Unavailable(f"the broker does not take it: {getattr(self._publisher, 'trouble', None) or 'no room'}")
        with self._lock:
            self._job.sent[hour_us] = Sent(state, checksum(*columns[:3]), fetched_at_us)
            self._job.quotes += len(quotes)
        metrics.HOURS.labels(VENUE, instrument.product_id, found.status).inc()
        metrics.QUOTES.labels(VENUE, instrument.product_id).inc(len(quotes))
        self._means.shown.hour(instrument.product_id, len(quotes))
