"""Publishing what a stream gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.broker.client import Bus
from pipeline.broker.topics import GAPS_TOPIC, full_name
from pipeline.stream import Event, Stream
from tests.messages import trades_record

PATIENCE_S = 60.0


class Venue:
    """Publishes messages of kraken BTC-USD as a producer does."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._trades = bus.publisher("trades", "kraken", "BTC-USD", schema="trades", name="test")
        self._gaps: Any = None

    def trades(self, trades: Sequence[Any], **fields: Any) -> None:
        """One message, confirmed by the broker."""
        self.send(trades, **fields)
        self.flush()

    def send(self, trades: Sequence[Any], **fields: Any) -> None:
        """One message of many, to be confirmed by `flush`."""
        self._trades.send(trades_record(list(trades), **fields), wait=True)

    def flush(self) -> None:
        assert self._trades.flush(PATIENCE_S)

    def gap(self, **fields: Any) -> None:
        if self._gaps is None:
            topic = full_name(self._bus.settings.tenant, "control", GAPS_TOPIC)
            self._gaps = self._bus.publisher_to(topic, "gap", "test")
        record = {"event": "opened", "venue": "kraken", "product_id": "BTC-USD", "at_us": 1}
        record |= dict.fromkeys(("first_id", "last_id", "from_us", "to_us", "reason")) | fields
        self._gaps.send(record, wait=True)
        assert self._gaps.flush(PATIENCE_S)


def take(stream: Stream, count: int) -> list[Event]:
    """The next events; fails where they do not come."""
    found = []
    for _ in range(count):
        event = stream.poll(PATIENCE_S)
        assert event is not None, f"only {len(found)} of {count} events came"
        found.append(event)
    return found
