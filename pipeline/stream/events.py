"""The events of a stream. `position`: pass it as `after` to resume behind the event."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipeline.core.products import Origin
from pipeline.core.times import us_to_iso
from pipeline.stream.running import text_of
from schemas.trade import Trade


@dataclass(frozen=True, slots=True)
class TradeEvent:
    """A trade as published. `origin`: live, snapshot (sent by the venue after connecting) or repair.

    `received_at_us`: when its message reached us, in microseconds since 1970.
    """

    kind: str
    venue: str
    product_id: str
    trade: Trade
    origin: Origin
    received_at_us: int
    position: str = ""

    def json(self) -> dict[str, Any]:
        """Return the event's content as JSON-serializable values, decimals as text."""
        return {"venue": self.venue, **self.trade.to_dict(exact=True), "origin": self.origin}


@dataclass(frozen=True, slots=True)
class CandleEvent:
    """A candle, exactly as the database will have it once it has stored the same ticks.

    `start_us`: in microseconds since 1970. `closed`: its interval is over; if a late tick or a repair changes it, it is
    emitted again. `vwap` is None for quotes, and without volume.
    """

    kind: str
    venue: str
    product_id: str
    start_us: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    vwap: Decimal | None
    ticks: int
    closed: bool
    position: str = ""

    def json(self) -> dict[str, Any]:
        """Return the event's content as JSON-serializable values, decimals as text."""
        numbers = {name: text_of(getattr(self, name)) for name in ("open", "high", "low", "close", "volume", "vwap")}
        about = {"venue": self.venue, "product_id": self.product_id, "start": us_to_iso(self.start_us)}
        return {**about, **numbers, "ticks": self.ticks, "closed": self.closed}


@dataclass(frozen=True, slots=True)
class GapEvent:
    """A gap opened, repaired or given up; `record` as in `schemas/gap.avsc`."""

    kind: str
    venue: str
    product_id: str
    record: dict[str, Any]
    position: str = ""

    def json(self) -> dict[str, Any]:
        """Return `record` with its texts cut to 200 characters: anyone may have sent them."""
        return {
            name: value[:200].encode("utf-8", "replace").decode() if isinstance(value, str) else value
            for name, value in self.record.items()
        }


Event = TradeEvent | CandleEvent | GapEvent
