"""What a stream gives."""

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
    """A trade as it came: `origin` live, snapshot (the venue's greeting after a connection) or repair.

    `received_at_us`: when its message reached us, microseconds since 1970.
    """

    kind: str
    venue: str
    product_id: str
    trade: Trade
    origin: Origin
    received_at_us: int
    position: str = ""

    def json(self) -> dict[str, Any]:
        return {"venue": self.venue, **self.trade.to_dict(exact=True), "origin": self.origin}


@dataclass(frozen=True, slots=True)
class CandleEvent:
    """A candle as the database says it once it has stored the same ticks; exact decimals.

    `closed`: its time is over. A closed candle comes again, closed, where a late tick or a repair changes it.
    `start_us` in microseconds since 1970. `vwap` None: of quotes, or without volume.
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
        numbers = {name: text_of(getattr(self, name)) for name in ("open", "high", "low", "close", "volume", "vwap")}
        about = {"venue": self.venue, "product_id": self.product_id, "start": us_to_iso(self.start_us)}
        return {**about, **numbers, "ticks": self.ticks, "closed": self.closed}


@dataclass(frozen=True, slots=True)
class GapEvent:
    """An event of `control/gaps`: `record` as `schemas/gap.avsc`."""

    kind: str
    venue: str
    product_id: str
    record: dict[str, Any]
    position: str = ""

    def json(self) -> dict[str, Any]:
        return {
            name: value[:200].encode("utf-8", "replace").decode() if isinstance(value, str) else value
            for name, value in self.record.items()
        }


Event = TradeEvent | CandleEvent | GapEvent
