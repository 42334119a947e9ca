"""The JSON feed (since July 2026). Pure parsing of its three answers.

An hour (`/ticks/BTC-USD/2023/2/20/12`, months count from one, nothing padded)::

    {"timestamp": 1676894400000, "multiplier": 0.1, "ask": 24921.5, "bid": 24849.4, "times": [84, 114, …],
     "asks": [0, 0, 28, …], "bids": [0, 0, 8, …], "askVolumes": [1.48, …], "bidVolumes": [13.0, …]}

times are ms deltas from timestamp, asks and bids deltas in units of the multiplier from ask and bid, volumes are in
units. The running hour is asked with `/ticks/BTC-USD?from=<ms>`. An hour without a quote has empty lists and nulls.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import orjson

from pipeline.errors import BadData, WrongAnswer
from producers.dukascopy.quotes import HOUR_MS, NO_QUOTES, Quotes, decimals_of_units
from schemas.columns import Column


def hour_path(code: str, hour_us: int) -> str:
    """`ticks/BTC-USD/2023/2/20/12` of 2023-02-20 12:00."""
    at = datetime.fromtimestamp(hour_us // 1_000_000, UTC)
    return f"ticks/{code}/{at.year}/{at.month}/{at.day}/{at.hour}"


def running_path(code: str) -> str:
    return f"ticks/{code}"


def minutes_path(code: str, day_us: int, side: str) -> str:
    """`candles/minute/EUR-USD/BID/2026/7/10` of 2026-07-10."""
    at = datetime.fromtimestamp(day_us // 1_000_000, UTC)
    return f"candles/minute/{code}/{side}/{at.year}/{at.month}/{at.day}"


def instrument_path(code: str) -> str:
    return f"instruments/{code}"


def _object(body: bytes) -> dict[str, Any]:
    try:
        loaded = orjson.loads(body)
    except ValueError:
        raise WrongAnswer(f"no JSON (it begins with {body[:40]!r})") from None
    if not isinstance(loaded, dict):
        raise WrongAnswer("JSON, but no object")
    return loaded


def _decimals(multiplier: Any) -> int:
    """1.0E-5 -> 5. Exact, by the number's own digits."""
    power = Decimal(repr(multiplier)).normalize() if isinstance(multiplier, (int, float)) else Decimal(0)
    _, digits, exponent = power.as_tuple()
    if digits != (1,) or not isinstance(exponent, int) or not -12 <= exponent <= 0:
        raise WrongAnswer(f"multiplier {multiplier!r} is no power of ten")
    return -exponent


def _prices(start: Any, deltas: Any, decimals: int, price_scale: int) -> Column:
    """Start value and deltas as integers with `price_scale` decimals."""
    first = Decimal(repr(start)).scaleb(decimals)
    if first != first.to_integral_value():
        raise WrongAnswer(f"start price {start!r} is not a multiple of 1e-{decimals}")
    prices: Column = (int(first) + np.cumsum(_integers(deltas))) * 10 ** (price_scale - decimals)
    return prices


def _integers(values: Any) -> Column:
    column = np.array(values)
    if column.dtype.kind not in "iu" or column.ndim != 1:
        raise WrongAnswer("a list of integers holds something else")
    return column.astype(np.int64)


def _scale(data: dict[str, Any], price_scale: int) -> int:
    decimals = _decimals(data["multiplier"])
    if decimals > price_scale:
        raise BadData(
            "scale",
            f"the vendor's prices have {decimals} decimals, we know of {price_scale}; set price_scale in "
            "DUKASCOPY_INSTRUMENTS_FILE.",
        )
    return decimals


def parse_hour(body: bytes, hour_us: int, price_scale: int, *, running: bool = False) -> Quotes:
    """The quotes of an hour. Raises `WrongAnswer`, and `BadData` where our price scale is too coarse.

    `running`: the answer to `?from=`, of which the part inside the hour is taken.
    """
    try:
        data = _object(body)
        if not data["times"]:
            return NO_QUOTES
        decimals = _scale(data, price_scale)
        offset_ms = data["timestamp"] - hour_us // 1000 + np.cumsum(_integers(data["times"]))
        bid = _prices(data["bid"], data["bids"], decimals, price_scale)
        ask = _prices(data["ask"], data["asks"], decimals, price_scale)
        volumes = [np.array(data[name], dtype=np.float64) for name in ("bidVolumes", "askVolumes")]
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise WrongAnswer(f"not an hour of quotes ({type(error).__name__}: {error})") from None
    if len({len(column) for column in (offset_ms, bid, ask, *volumes)}) != 1:
        raise WrongAnswer("lists of different lengths")
    inside = (offset_ms >= 0) & (offset_ms < HOUR_MS)
    if not running and not inside.all():
        raise WrongAnswer("times outside of the hour that was asked for")
    (bid_size, ask_size), size_scale = decimals_of_units(*volumes)
    quotes = Quotes(offset_ms, bid, ask, bid_size, ask_size, size_scale)
    return (quotes if inside.all() else quotes.chosen(inside)).in_order()


def parse_minutes(body: bytes, day_us: int, price_scale: int) -> Column:
    """Minute candles of one side and day: rows minute, open, high, low, close (integers of our price scale), volume in
    hundredths of a unit. Minutes left out by the vendor had no trading. Raises `WrongAnswer`, `BadData`."""
    try:
        data = _object(body)
        if not data["times"]:
            return np.empty((6, 0), dtype=np.int64)
        decimals = _scale(data, price_scale)
        minute = (data["timestamp"] - day_us // 1000) // 60_000
        minute = minute + np.cumsum(_integers(data["times"])) * (data["shift"] // 60_000)
        prices = [_prices(data[n], data[f"{n}s"], decimals, price_scale) for n in ("open", "high", "low", "close")]
        volume = np.rint(np.array(data["volumes"], dtype=np.float64) * 1e8).astype(np.int64)
        return np.stack([minute, *prices, volume])
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise WrongAnswer(f"not a day of candles ({type(error).__name__}: {error})") from None


@dataclass(frozen=True)
class Description:
    """What the vendor says about an instrument."""

    price_scale: int
    first_tick_us: int | None
    holidays_ms: tuple[tuple[int, int], ...]


def parse_description(body: bytes) -> Description:
    """`{"priceScale": 5, "holidays": [{"from": ms, "till": ms}], "histories": [{"period": "TICK", "from": ms}]}`"""
    try:
        data = _object(body)
        ticks = [int(one["from"]) for one in data.get("histories") or () if one["period"] == "TICK"]
        holidays = tuple((int(one["from"]), int(one["till"])) for one in data.get("holidays") or ())
        return Description(int(data["priceScale"]), ticks[0] * 1000 if ticks else None, holidays)
    except (KeyError, TypeError, ValueError) as error:
        raise WrongAnswer(f"not a description of an instrument ({type(error).__name__}: {error})") from None
