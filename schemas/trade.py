"""One trade, the same whichever way it came: for people and programs that work with single trades.

Parsers and writers use the rows of `schemas.records`; `Trade.from_message` makes these of a message.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.core.products import TakerSide, canonical_product
from pipeline.core.times import iso_to_us, seconds_to_us, us_to_iso
from schemas.records import TradesMessage


class Trade(BaseModel):
    """A trade of a venue. Price and quantity are exact decimals; times are the venue's.

    `product_id` is canonical (`BTC-USD`); `BTC/USD` is accepted.
    """

    model_config = ConfigDict(frozen=True)

    product_id: str
    price: Decimal = Field(allow_inf_nan=False)
    quantity: Decimal = Field(allow_inf_nan=False)
    timestamp_us: int
    trade_id: int | None = None
    taker_side: TakerSide = "unknown"

    @field_validator("product_id")
    @classmethod
    def _canonical(cls, value: str) -> str:
        return canonical_product(value)

    @property
    def timestamp(self) -> str:
        """ISO 8601 in UTC, `2026-09-26T18:07:54.626190Z`."""
        return us_to_iso(self.timestamp_us)

    @property
    def timestamp_ms(self) -> int:
        return self.timestamp_us // 1000

    def to_dict(self, *, numbers: bool = False) -> dict[str, Any]:
        """Plain values; price and quantity as exact text, or with `numbers` as floats for a chart."""
        return {
            "product_id": self.product_id,
            "price": float(self.price) if numbers else format(self.price, "f"),
            "quantity": float(self.quantity) if numbers else format(self.quantity, "f"),
            "timestamp": self.timestamp,
            "timestamp_ms": self.timestamp_ms,
            "trade_id": self.trade_id,
            "taker_side": self.taker_side,
        }

    @staticmethod
    def unix_seconds_to_iso_format(seconds: float | int | str | Decimal) -> str:
        """`1762795433.9717445` -> `2025-11-10T17:23:53.971744Z`, truncated to µs. A float is taken by its digits."""
        return us_to_iso(seconds_to_us(_digits(seconds)))

    @staticmethod
    def iso_format_to_unix_seconds(timestamp: str) -> float:
        """`2025-11-10T17:23:53.971744Z` -> the float nearest to its seconds since 1970."""
        return iso_to_us(timestamp) / 1_000_000

    @classmethod
    def from_kraken_websocket_response(
        cls,
        product_id: str,
        price: Decimal | str | int | float,
        quantity: Decimal | str | int | float,
        timestamp: str,
        *,
        trade_id: int | None = None,
        taker_side: TakerSide = "unknown",
    ) -> Self:
        """From the fields of a `trade` element of WebSocket v2; `timestamp` is its RFC 3339 text."""
        return cls(
            product_id=product_id,
            price=Decimal(_digits(price)),
            quantity=Decimal(_digits(quantity)),
            timestamp_us=iso_to_us(timestamp),
            trade_id=trade_id,
            taker_side=taker_side,
        )

    @classmethod
    def from_kraken_rest_api_response(
        cls,
        product_id: str,
        price: Decimal | str | int | float,
        quantity: Decimal | str | int | float,
        timestamp_sec: float | int | str | Decimal,
        *,
        trade_id: int | None = None,
        taker_side: TakerSide = "unknown",
    ) -> Self:
        """From the fields of a row of REST `Trades`; `timestamp_sec` is its number of seconds."""
        return cls(
            product_id=product_id,
            price=Decimal(_digits(price)),
            quantity=Decimal(_digits(quantity)),
            timestamp_us=seconds_to_us(_digits(timestamp_sec)),
            trade_id=trade_id,
            taker_side=taker_side,
        )

    @classmethod
    def from_message(cls, message: TradesMessage) -> Iterator[Self]:
        """The trades of a message."""
        for row in message.trades:
            yield cls(
                product_id=message.product_id,
                price=Decimal(row.price),
                quantity=Decimal(row.quantity),
                timestamp_us=row.timestamp_us,
                trade_id=row.trade_id,
                taker_side=row.taker_side,
            )


def _digits(value: float | int | str | Decimal) -> str:
    """Return the number's digits; a float by its shortest representation, never in scientific notation."""
    return format(Decimal(str(value)), "f")
