"""What a venue is known to have, told on a way of its own: what is lost on the trades' way shows as missing.

A thread with a client, a publisher and a budget of its own, so that nothing which holds up trades holds up the news of
them.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterable
from typing import Any

from pipeline.broker.client import Bus
from pipeline.broker.topics import HEADS_TOPIC, full_name
from pipeline.core import events
from pipeline.core.log import get_logger
from pipeline.core.settings import PulsarSettings
from venues.venue_clock import VenueClock

TELL_EVERY_S = 1.0
REPEAT_EVERY_S = 10.0
# Ids further than this from all others are not believed on one word: one trade with a wrong id would make all ids up to
# it missing. The busiest pairs make some 100,000 trades an hour.
JUMP = 1_000_000
# Trades that fit together before anything is said.
SUPPORT = 2


class Head:
    """The ids of one product: `from_id` the lowest that the stream has shown, `newest_id` the highest known."""

    def __init__(self) -> None:
        self.from_id: int | None = None
        self.newest_id: int | None = None
        self.said_us = 0  # when the venue last said so, our clock
        self.support = 0
        self._doubted: dict[str, int] = {}  # by source: the last id that was not believed

    def streamed(self, ids: list[int], at_us: int) -> list[int]:
        """Trades came; returns the ids that are not believed."""
        newest = self.newest_id
        low, high = min(ids), max(ids)
        if newest is not None:
            if low < newest - JUMP or high > newest + JUMP:
                return self._sorted_out(ids, newest, at_us)
        elif high - low > JUMP:
            return self._sorted_out(ids, int(statistics.median_low(ids)), at_us)
        self._believe(low, high, len(ids), at_us)
        return []

    def _sorted_out(self, ids: list[int], around: int, at_us: int) -> list[int]:
        near = [one for one in ids if abs(one - around) <= JUMP]
        far = [one for one in ids if abs(one - around) > JUMP]
        if near:
            self._believe(min(near), max(near), len(near), at_us)
        asked = self._doubted.get("rest")
        agreed = [one for one in far if asked is not None and abs(one - asked) <= JUMP]
        if agreed:  # two sources say the same
            self._adopt(min(agreed), max(agreed), at_us)
        else:
            self._doubted["stream"] = far[-1]
        return [one for one in far if one not in agreed]

    def asked(self, newest_id: int, at_us: int) -> bool:
        """REST said which trade is its newest; False when that is not believed."""
        if self.newest_id is None or abs(newest_id - self.newest_id) <= JUMP:
            low = newest_id if self.from_id is None else self.from_id
            self._believe(low, newest_id, SUPPORT, at_us)
            return True
        # The stream, or REST itself at another time, must say the same.
        if any(abs(newest_id - one) <= JUMP for one in self._doubted.values()):
            self._adopt(min(newest_id, self._doubted.get("stream", newest_id)), newest_id, at_us)
            return True
        self._doubted["rest"] = newest_id
        return False

    def _believe(self, low: int, high: int, count: int, at_us: int) -> None:
        if self.from_id is None or low < self.from_id:
            self.from_id = low
        if self.newest_id is None or high > self.newest_id:
            self.newest_id = high
        self.support += count
        self.said_us = at_us

    def _adopt(self, low: int, high: int, at_us: int) -> None:
        """The ids go on elsewhere: after an outage of days, or because what was believed first was wrong."""
        if (
            self.newest_id is not None
            and high > self.newest_id
            and self.from_id is not None
            and self.support >= SUPPORT
        ):
            low = self.from_id  # nothing between is given up
        self.from_id, self.newest_id, self.said_us = low, max(low, high), at_us
        self.support = max(self.support, SUPPORT)
        self._doubted.clear()


class Heads:
    """Tells the heads of one venue onto `control/heads`, until stopped."""

    def __init__(
        self,
        settings: PulsarSettings,
        venue: str,
        asset_class: str,
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
        self._told: dict[str, tuple[int | None, int | None, int, float]] = {}
        self._thread = threading.Thread(target=self._run, name="heads", daemon=True)
        self._thread.start()

    def dead_threads(self) -> list[str]:
        own = [] if self._thread.is_alive() or self._stop.is_set() else [self._thread.name]
        return own + self._bus.dead_threads()

    def _run(self) -> None:
        while not self._stop.wait(TELL_EVERY_S):
            try:
                self._tell(time.monotonic())
            except Exception as error:  # the next round is in a second, and health shows what cannot be published
                get_logger().error(events.FAILED, thread="heads", error=f"{type(error).__name__}: {error}")

    def _tell(self, now: float) -> None:
        if self.publisher.failed != self._failed:  # some were lost on their way
            self._failed = self.publisher.failed
            self._told.clear()
        for product, head in self.heads.items():
            from_id, newest_id, said_us = head.from_id, head.newest_id, head.said_us
            if from_id is None or newest_id is None or head.support < SUPPORT or from_id > newest_id:
                continue
            told = self._told.get(product)
            again = told is not None and told[:2] == (from_id, newest_id)
            if told is not None and again and (said_us == told[2] or now - told[3] < REPEAT_EVERY_S):
                continue
            record: dict[str, Any] = {
                "venue": self._venue,
                "product_id": product,
                "asset_class": self._asset_class,
                "from_id": from_id,
                "newest_id": newest_id,
                "clock_offset_us": self._clock.offset_us,
                "at_us": said_us,
            }
            if self.publisher.send(record, key=product):
                self._told[product] = (from_id, newest_id, said_us, now)

    def close(self) -> None:
        self._bus.close(0.5)
