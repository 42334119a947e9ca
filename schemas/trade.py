"""A single trade, independent of its source: the public type for programs that work with trades one by one.

    Trade(product_id="BTC/USD", price=50000.1, quantity=0.5, timestamp="2025-11-10T17:23:53.971744Z",
          timestamp_ms=1762795433971)

Parsers and writers use the rows of `schemas.records`. `Trade.from_message` creates trades from a message, and
`Trade.from_columns` from the result of `pipeline.read.trades`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.core.errors import PipelineError
from pipeline.core.products import TakerSide, canonical_product
from pipeline.core.times import END_US, iso_to_us, seconds_to_us, us_to_iso
from schemas.records import TradesMessage

# Milliseconds computed from a float may be one too low, rounded ones one too high.
_AGREE_WITHIN_US = 1_000


class Trade(BaseModel):
    """A trade of a venue. Price and quantity are exact decimals; times are the venue's.

    The time is given as `timestamp` (ISO 8601 with a zone), `timestamp_ms`, `timestamp_us`, or several of them, which
    must agree to a millisecond; the finest counts. All three can be read.

    `product_id` is canonical (`BTC-USD`); `BTC/USD` is accepted. Raises `pydantic.ValidationError`, a `ValueError`.
    """

    model_config = ConfigDict(frozen=True)

    product_id: str
    price: Decimal = Field(allow_inf_nan=False)
    quantity: Decimal = Field(allow_inf_nan=False)
    timestamp: str = ""
    timestamp_ms: int = 0
    timestamp_us: int = Field(0, exclude=True, repr=False)  # dumped as `timestamp`
    trade_id: int | None = None
    taker_side: TakerSide = "unknown"

    @field_validator("product_id")
    @classmethod
    def _canonical(cls, value: str) -> str:
        try:
            return canonical_product(value)
        except PipelineError as error:
            raise ValueError(str(error).rstrip(".")) from None

    @model_validator(mode="before")
    @classmethod
    def _fill_times(cls, given: Any) -> Any:
        """Derive the times that were not given from those that were."""
        if not isinstance(given, Mapping):
            return given
        times: list[tuple[str, int]] = []  # the finest first
        if (value := given.get("timestamp_us")) is not None:
            times.append(("timestamp_us", _whole(value, "timestamp_us", 1)))
        if (value := given.get("timestamp")) is not None:
            times.append(("timestamp", _moment(value)))
        if (value := given.get("timestamp_ms")) is not None:
            times.append(("timestamp_ms", _whole(value, "timestamp_ms", 1_000)))
        if not times:
            raise ValueError("a time is missing; give timestamp='2025-11-10T17:23:53.971744Z' or timestamp_ms")
        finest, us = times[0]
        for name, other in times[1:]:
            if abs(other - us) > _AGREE_WITHIN_US:
                raise ValueError(f"{finest} says {us_to_iso(us)} and {name} {us_to_iso(other)}; give one moment")
        return {**given, "timestamp": us_to_iso(us), "timestamp_ms": us // 1_000, "timestamp_us": us}

    def to_dict(self, *, exact: bool = False) -> dict[str, Any]:
        """Return plain values; price and quantity as numbers, or with `exact` as text with every digit."""
        return {
            "product_id": self.product_id,
            "price": format(self.price, "f") if exact else float(self.price),
            "quantity": format(self.quantity, "f") if exact else float(self.quantity),
            "timestamp": self.timestamp,
            "timestamp_ms": self.timestamp_ms,
            "trade_id": self.trade_id,
            "taker_side": self.taker_side,
        }

    @staticmethod
    def unix_seconds_to_iso_format(seconds: float | int | str | Decimal) -> str:
        """`1762795433.9717445` -> `2025-11-10T17:23:53.971744Z`, truncated to µs. Uses the shortest digits of a
        float."""
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
        """Create a trade from the fields of a WebSocket v2 `trade` element; `timestamp` is its RFC 3339 text."""
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
        """Create a trade from the fields of a REST `Trades` row; `timestamp_sec` is its time in seconds."""
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
        """Yield the trades of a message."""
        for row in message.trades:
            yield cls(
                product_id=message.product_id,
                price=Decimal(row.price),
                quantity=Decimal(row.quantity),
                timestamp_us=row.timestamp_us,
                trade_id=row.trade_id,
                taker_side=row.taker_side,
            )

    @classmethod
    def from_columns(cls, product_id: str, columns: Mapping[str, npt.NDArray[Any]]) -> Iterator[Self]:
        """Yield the trades in columns of equal length, as returned by `pipeline.read.trades`.

        Exact if the columns are (`exact=True`); of a float64 the shortest digits are used.
        """
        times: Sequence[int] = columns["time"].astype("datetime64[us]").astype(np.int64).tolist()
        rows = zip(*(columns[name].tolist() for name in ("trade_id", "price", "quantity", "taker_side")), strict=True)
        for timestamp_us, (trade_id, price, quantity, side) in zip(times, rows, strict=True):
            yield cls(
                product_id=product_id,
                price=price,
                quantity=quantity,
                timestamp_us=timestamp_us,
                trade_id=trade_id,
                taker_side=side,
            )


def _digits(value: float | int | str | Decimal) -> str:
    """Return the number's digits; a float by its shortest representation, never in scientific notation."""
    return format(Decimal(str(value)), "f")


def _moment(text: Any) -> int:
    try:
        return iso_to_us(text)
    except PipelineError as error:
        raise ValueError(f"timestamp: {error}, such as 2025-11-10T17:23:53.971744Z") from None


def _whole(value: Any, name: str, unit_us: int) -> int:
    """Convert a number of units (an integer, or a float or text without a fraction) to µs."""
    try:
        number = Decimal(str(value))
        if number == int(number) and 0 <= number * unit_us < END_US:
            return int(number) * unit_us
    except (ArithmeticError, ValueError):
        pass
    raise ValueError(f"{name} must be a whole number since 1970, before the year 2100 (it is {value!r})")
