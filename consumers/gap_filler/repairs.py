"""Publish repairs: trades to the products' topics, gap events to `control/gaps`, bad rows as dead letters."""

from __future__ import annotations

import threading

from consumers.gap_filler.gap_tracker import Key
from pipeline.broker.client import Bus
from pipeline.broker.publisher import Publisher
from pipeline.broker.topics import GAPS_TOPIC, full_name
from pipeline.core.runtime import now_us
from venues.bad_rows import BadRowLetters


class Repairs:
    """The gap filler's publishers, opened when first needed. Thread-safe."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lock = threading.Lock()
        self._publishers: dict[Key, Publisher] = {}
        topic = full_name(bus.settings.tenant, "control", GAPS_TOPIC)
        self.letters = BadRowLetters(bus, "gap-filler")
        self._control = bus.publisher_to(topic, "gap", bus.own_name("gap-filler"))

    def publisher(self, venue: str, product: str) -> Publisher:
        """Return the publisher of a product's trades."""
        with self._lock:
            if (venue, product) not in self._publishers:
                name = self._bus.own_name(f"{venue}-repair")
                self._publishers[venue, product] = self._bus.publisher(
                    "trades", venue, product, schema="trades", name=name
                )
            return self._publishers[venue, product]

    def publish_event(self, event: str, key: Key, *, reason: str | None = None, **where: int) -> None:
        """Publish a gap event: "opened", "repaired" or "unrepairable". `where`: the gap's bounds, as in `gap.avsc`."""
        empty: dict[str, int | None] = dict.fromkeys(("first_id", "last_id", "from_us", "to_us"))
        about = {"event": event, "venue": key[0], "product_id": key[1], "reason": reason, "at_us": now_us()}
        self._control.send({**empty, **where, **about}, key=key[1])

    def flush(self, seconds: float) -> None:
        """Wait up to this long for the confirmations of each publisher."""
        for publisher in [*self._publishers.values(), self._control]:
            publisher.flush(seconds)
