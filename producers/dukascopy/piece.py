"""A piece of an instrument's load: several threads fetch and publish hours for some seconds."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from pipeline.broker.backpressure import Backpressure
from pipeline.broker.publisher import Publisher
from pipeline.core import events
from pipeline.core.errors import BadData, PipelineError, Unavailable, WrongAnswer
from pipeline.core.log import get_logger
from pipeline.core.progress import Progress
from pipeline.core.stopping import Stopped
from pipeline.core.times import DAY_US, HOUR_US, us_to_iso
from pipeline.database.hour_order import late_enough
from pipeline.database.ledger import Hour
from producers.dukascopy import metrics
from producers.dukascopy.feeds.feed import Feed, Fetched, reason
from producers.dukascopy.feeds.web import TRIES
from producers.dukascopy.instruments import VENUE
from producers.dukascopy.job import Job, Sent
from producers.dukascopy.looks import Looks
from producers.dukascopy.plan import PUBLISHED_AFTER_US, Open, Plan
from producers.dukascopy.quotes import NO_QUOTES
from schemas.columns import checksum, encode_quote_hour
from schemas.records import HourHeader

PIECE_S, MORE_S = 20.0, 10.0


@dataclass(frozen=True)
class Means:
    """Shared resources of all loads. `confirm_us`: time between the two looks that make an hour empty."""

    feed: Feed
    backpressure: Backpressure
    progress: Progress
    stop: threading.Event
    workers: int
    confirm_us: int


class Piece:
    """Call `run`, then `settle`. `finished`: no hour of the plan is left."""

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
        finished = [*((h, self._closed) for h in plan.closed), *((h, self._fetch) for h in plan.ask)]
        # In order of time: a day whose closed hours arrive separately cannot go straight into the archive.
        self._queue: deque[tuple[int, Callable[[int], None]]] = deque(
            sorted(finished, key=itemgetter(0)) + [(h, self._running) for h in plan.running]
        )
        self._tries: dict[int, int] = {}
        self._empty: dict[int, Fetched] = {}  # empty answers that need a proof of the feed
        self._busy = 0
        self._until = time.monotonic() + PIECE_S
        self.finished = False

    def run(self) -> None:
        """Fetch and publish until everything is done, `PIECE_S` and the day have passed, or the process stops."""
        count = min(self._means.workers, len(self._queue))
        threads = [threading.Thread(target=self._worker, name=f"hours-{i}", daemon=True) for i in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive() and not self._stop.is_set():
                thread.join(0.1)
        if self._stop.is_set():  # threads waiting for an answer are abandoned
            for thread in threads:
                thread.join(0.1)
        self.finished = not self._queue

    def _next(self) -> tuple[int, Callable[[int], None]] | None:
        """Return the next hour; None if there is none and none can be retried."""
        while not self._stop.is_set() and self._job.error is None:
            with self._lock:
                if self._is_over():
                    return None
                if self._queue:
                    self._busy += 1
                    return self._queue.popleft()
                if not self._busy:
                    return None
            self._stop.wait(0.02)
        return None

    def _is_over(self) -> bool:
        """Whether its time is over. A day that was begun is finished, within limits: the writer waits for all of it."""
        late_s = time.monotonic() - self._until
        return late_s >= (MORE_S if self._queue and self._queue[0][0] % DAY_US else 0.0)

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
            except Exception as error:  # a bug of ours or of a library: only this hour fails
                get_logger().exception(events.FAILED, product=self._job.instrument.product_id, hour=us_to_iso(hour_us))
                self._unusable(hour_us, f"{type(error).__name__}: {error}")
            finally:
                with self._lock:
                    self._busy -= 1

    def _unusable(self, hour_us: int, why: str) -> None:
        with self._lock:
            self._job.unusable(hour_us, why)

    def _failed(self, hour_us: int, do: Callable[[int], None], error: PipelineError) -> None:
        """Queue the hour for a retry in this piece, or leave it missing."""
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
            if wait_s:  # the feed is down: do not try the remaining hours one by one
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
        self._job.done[hour_us] = Open("the hour is not over", hour_us + HOUR_US + PUBLISHED_AFTER_US)

    def _fetch(self, hour_us: int) -> None:
        known = self._known.get(hour_us)
        # A partial hour is requested again, not taken from the disk.
        found = self._feed.hour(self._job.instrument, hour_us, fresh=known is not None and known.state == "partial")
        self._answered()
        if found.status == "ticks":
            if not self._feed.free and found.fetched_at_us < hour_us + HOUR_US:
                raise WrongAnswer("the answer was given before the hour had ended")  # and comes from a cache
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
        """Decide whether to believe the remaining empty answers. `with_quotes`: returns hours that have quotes, which
        are requested as a proof if the feed has returned none recently."""
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
        """Decide about one hour. `works`: whether a feed returns quotes of hours that have some."""
        damaged = next((f"{name}: {why}" for name, why in found.despite.items() if works(name)), None)
        if damaged:  # the feed works, so this hour exists and is damaged
            why = f"{damaged}; {found.feed}: not found (404)"
            self._job.done[hour_us] = Open(why, found.fetched_at_us + self._means.confirm_us)
            self._job.failed[hour_us] = why
        elif works(found.feed):
            self._nothing(hour_us, found)
        elif self._feed.has_alternative(self._job.instrument):
            self.finished = False  # the next piece requests it from the other feed
        else:
            self._job.unproven = f"the {found.feed} feed returns no quotes even for hours that have some: not believed"
            self._job.done[hour_us] = Open(self._job.unproven, found.fetched_at_us + self._means.confirm_us)

    def _nothing(self, hour_us: int, found: Fetched) -> None:
        """Handle an empty hour. Final at once from a folder, whose file of zero length is the vendor's own; from the
        network after a second look `confirm_us` later, if the hour is old enough at both, by the vendor's clock and
        ours."""
        self._looks.note(self._job.instrument, hour_us, sure=self._feed.free)
        known = self._known.get(hour_us)
        if known and known.accounted:  # asked again (`--refetch`): emptiness takes the place of nothing that is final
            if known.ticks:
                text = "the vendor has nothing of it any more; the stored quotes stay"
                get_logger().warning(
                    events.HOUR_KEPT, product=self._job.instrument.product_id, hour=us_to_iso(hour_us), text=text
                )
            self._job.done[hour_us] = None
            self._means.progress.advance(self._job.instrument.product_id, 1, 0)
            return
        seen = known if known and known.state == "seen_empty" else None
        confirm_us = self._means.confirm_us
        sure_us = self._feed.clock.sure_us()
        old = sure_us is not None and late_enough(hour_us, min(sure_us, found.fetched_at_us))
        counts = seen is not None and late_enough(hour_us, seen.fetched_at_us)
        if self._feed.free or (old and seen and counts and found.fetched_at_us - seen.fetched_at_us >= confirm_us):
            self._publish(hour_us, found, "confirmed_empty")
            return
        if seen is None or (old and not counts):
            self._publish(hour_us, found, "seen_empty")
        again_us = found.fetched_at_us + confirm_us
        why = f"{found.feed} answers {found.status}; needs a second look"
        self._job.done[hour_us] = Open(why, again_us)

    def _publish(self, hour_us: int, found: Fetched, state: str) -> None:
        instrument, quotes = self._job.instrument, found.quotes
        # If a clock was set back, the newer answer must still count as newer.
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
            raise Unavailable(f"the broker refuses it: {getattr(self._publisher, 'trouble', None) or 'no memory left'}")
        with self._lock:
            self._job.sent[hour_us] = Sent(state, checksum(*columns[:3]), fetched_at_us)
            self._job.quotes += len(quotes)
        metrics.HOURS.labels(VENUE, instrument.product_id, found.status).inc()
        metrics.QUOTES.labels(VENUE, instrument.product_id).inc(len(quotes))
        self._means.progress.advance(instrument.product_id, 1, len(quotes))
