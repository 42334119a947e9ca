"""Heads: the newest trade known per product, published separately from the trades, so that lost trades show as missing.

A thread with its own client, publisher and memory budget, so that nothing that holds up the trades holds up the heads.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from pipeline.broker.client import Bus
from pipeline.broker.topics import HEADS_TOPIC, full_name
from pipeline.core import events
from pipeline.core.log import get_logger
from pipeline.core.products import ID_JUMP
from pipeline.core.settings import PulsarSettings
from venues.venue_clock import VenueClock

PUBLISH_EVERY_S = 1.0
REPEAT_EVERY_S = 10.0
# Consistent trades needed before a head is published.
SUPPORT = 2
# A highest id that the stream does not pass is compared with REST this often. It is discarded if `REFUTED_BY` answers
# over `REFUTED_AFTER_US` stay below it: sooner than by the gap filler, to which it would otherwise be reported again.
DOUBT_US = 60_000_000
REFUTED_AFTER_US, REFUTED_BY = 300_000_000, 3


class Head:
    """One product's head: `from_id`, the lowest id seen on the stream, and `newest_id`, the highest one known.

    Changed by the connection's thread, read by the publishing one. Times are µs since 1970, by our clock.
    """

    def __init__(self) -> None:
        self.from_id: int | None = None
        self.newest_id: int | None = None
        # When the stream showed it, and when either source confirmed it; 0: never. A REST answer may be old.
        self.said_us = self.heard_us = 0
        self.support = 0  # trades that were consistent with it
        self._doubted: dict[str, int] = {}  # by source (stream, rest): the last doubted id
        self._later: int | None = None  # the highest id of frames that came after `newest_id` but are below it
        self._doubt_at_us = 0
        self._below: list[int] = []  # when REST gave an id below `newest_id`

    def streamed(self, ids: list[int], at_us: int) -> list[int]:
        """Add ids from the stream; returns the doubtful ones, which are too far from the others."""
        newest = self.newest_id
        low, high = min(ids), max(ids)
        if newest is not None:
            if low < newest - ID_JUMP or high > newest + ID_JUMP:
                return self._split(ids, newest, at_us)
        elif high - low > ID_JUMP:
            return self._split(ids, int(statistics.median_low(ids)), at_us)
        self._streamed(low, high, len(ids), at_us)
        return []

    def _split(self, ids: list[int], around: int, at_us: int) -> list[int]:
        """Add the ids near `around` and those that REST agrees with; returns the others."""
        near = [number for number in ids if abs(number - around) <= ID_JUMP]
        far = [number for number in ids if abs(number - around) > ID_JUMP]
        if near:
            self._streamed(min(near), max(near), len(near), at_us)
        asked = self._doubted.get("rest")
        agreed = [number for number in far if asked is not None and abs(number - asked) <= ID_JUMP]
        if agreed:  # two sources agree
            self._adopt(min(agreed), max(agreed), at_us)
            self.said_us = at_us
        else:
            self._doubted["stream"] = far[-1]
        return [number for number in far if number not in agreed]

    def asked(self, newest_id: int, at_us: int) -> bool:
        """Add the newest id by REST; returns False if it is doubtful."""
        if self.newest_id is None or abs(newest_id - self.newest_id) <= ID_JUMP:
            low = newest_id if self.from_id is None else self.from_id
            self._believe(low, newest_id, SUPPORT, at_us)
            self._refute(newest_id, at_us)
            return True
        # Needs the agreement of the stream, or of an earlier REST answer.
        if any(abs(newest_id - doubted) <= ID_JUMP for doubted in self._doubted.values()):
            self._adopt(min(newest_id, self._doubted.get("stream", newest_id)), newest_id, at_us)
            return True
        self._doubted["rest"] = newest_id
        return False

    def doubtful(self, at_us: int) -> bool:
        """Return whether to ask REST now, because the stream continues below `newest_id`. The caller must ask: it
        counts as done."""
        if self._later is None or at_us < self._doubt_at_us:
            return False
        self._doubt_at_us = at_us + DOUBT_US
        return True

    def _refute(self, newest_id: int, at_us: int) -> None:
        """Discard a `newest_id` that REST has not reached for minutes: a single trade may have had a wrong id."""
        if self.newest_id is None or newest_id >= self.newest_id:
            self._below.clear()
            return
        self._below.append(at_us)
        if len(self._below) >= REFUTED_BY and at_us - self._below[0] >= REFUTED_AFTER_US:
            self.newest_id = newest_id if self._later is None else max(newest_id, self._later)
            self.from_id = self.newest_id if self.from_id is None else min(self.from_id, self.newest_id)
            self._raised(at_us)

    def _raised(self, at_us: int) -> None:
        self._later, self._doubt_at_us = None, at_us + DOUBT_US
        self._below.clear()

    def _streamed(self, low: int, high: int, count: int, at_us: int) -> None:
        if self.newest_id is not None and high < self.newest_id:
            self._later = high if self._later is None else max(self._later, high)
        self._believe(low, high, count, at_us)
        if high == self.newest_id:
            self.said_us = at_us

    def _believe(self, low: int, high: int, count: int, at_us: int) -> None:
        if self.from_id is None or low < self.from_id:
            self.from_id = low
        if self.newest_id is None or high > self.newest_id:
            self.newest_id = high
            self._raised(at_us)
        self.support += count
        self.heard_us = at_us

    def _adopt(self, low: int, high: int, at_us: int) -> None:
        """Accept a jump of ids: after an outage of days, or because the first ids were wrong."""
        if (
            self.newest_id is not None
            and high > self.newest_id
            and self.from_id is not None
            and self.support >= SUPPORT
        ):
            low = self.from_id  # keeps the ids in between accounted for
        self.from_id, self.newest_id, self.heard_us = low, max(low, high), at_us
        self.support = max(self.support, SUPPORT)
        self._doubted.clear()
        self._raised(at_us)


class Heads:
    """Publishes the heads of one venue on `control/heads` until stopped, from a thread of its own."""

    def __init__(
        self,
        settings: PulsarSettings,
        venue: str,
        asset_class: Callable[[str], str],
        products: Iterable[str],
        clock: VenueClock,
        stop: threading.Event,
    ) -> None:
        self.heads = {product: Head() for product in products}
        self._venue, self._asset_class, self._clock, self._stop = venue, asset_class, clock, stop
        self._bus = Bus(settings, stop, budget_bytes=1 << 20)
        topic = full_name(settings.tenant, "control", HEADS_TOPIC)
        self.publisher = self._bus.publisher_to(topic, "head", self._bus.own_name(f"{venue}-heads"), lazy=True)
        self._failed = 0
        self._published: dict[str, tuple[int | None, int | None, int, float]] = {}
        self._thread = threading.Thread(target=self._run, name="heads", daemon=True)
        self._thread.start()

    def dead_threads(self) -> list[str]:
        own = [] if self._thread.is_alive() or self._stop.is_set() else [self._thread.name]
        return own + self._bus.dead_threads()

    def _run(self) -> None:
        while not self._stop.wait(PUBLISH_EVERY_S):
            try:
                self._publish(time.monotonic())
            except Exception as error:  # retried in a second; health shows what cannot be published
                get_logger().error(events.FAILED, thread="heads", error=f"{type(error).__name__}: {error}")

    def _publish(self, now: float) -> None:
        if self.publisher.failed != self._failed:  # the broker refused some
            self._failed = self.publisher.failed
            self._published.clear()
        for product, head in self.heads.items():
            said_us = head.said_us  # read before the id, which may only be newer
            from_id, newest_id, heard_us = head.from_id, head.newest_id, head.heard_us
            if from_id is None or newest_id is None or head.support < SUPPORT or from_id > newest_id:
                continue
            sent = self._published.get(product)
            again = sent is not None and sent[:2] == (from_id, newest_id)
            if sent is not None and again and (heard_us == sent[2] or now - sent[3] < REPEAT_EVERY_S):
                continue
            record: dict[str, Any] = {
                "venue": self._venue,
                "product_id": product,
                "asset_class": self._asset_class(product),
                "from_id": from_id,
                "newest_id": newest_id,
                "clock_offset_us": self._clock.offset_us,
                "at_us": said_us,
            }
            if self.publisher.send(record, key=product):
                self._published[product] = (from_id, newest_id, heard_us, now)

    def close(self) -> None:
        self._bus.close(0.5)
