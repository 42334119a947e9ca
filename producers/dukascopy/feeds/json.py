"""Parse the three answers of the JSON feed (since July 2026). Pure functions.

An hour (`/ticks/BTC-USD/2023/2/20/12`, months count from one, nothing padded)::

    {"timestamp": 1676894400000, "multiplier": 0.1, "ask": 24921.5, "bid": 24849.4, "times": [84, 114, …],
     "asks": [0, 0, 28, …], "bids": [0, 0, 8, …], "askVolumes": [1.48, …], "bidVolumes": [13.0, …]}

times are ms deltas from timestamp, asks and bids are deltas in units of the multiplier from ask and bid, volumes are in
units. The running hour is `/ticks/BTC-USD?from=<ms>`. An hour without quotes has empty lists and nulls.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from pipeline.core.errors import BadData, WrongAnswer
from pipeline.core.times import HOUR_MS
from producers.dukascopy.quotes import MAX_SIZE, NO_QUOTES, Quotes, decimals_of_units, judged
from schemas.columns import Column

MINUTE_MS = 60_000
# Some 28 bytes per quote; the largest hour seen has 0.3 M quotes, 9 MB.
MAX_BYTES = 24 << 20
MAX_UNITS = 10**15  # of a price; the writers' limit
MAX_DELTA = 2**40  # a million of them stay within 64 bits


def hour_path(code: str, hour_us: int) -> str:
    """Path of an hour: `ticks/BTC-USD/2023/2/20/12` for 2023-02-20 12:00."""
    at = datetime.fromtimestamp(hour_us // 1_000_000, UTC)
    return f"ticks/{code}/{at.year}/{at.month}/{at.day}/{at.hour}"


def running_path(code: str) -> str:
    return f"ticks/{code}"


def minutes_path(code: str, day_us: int, side: str) -> str:
    """Path of a day's minute candles: `candles/minute/EUR-USD/BID/2026/7/10` for 2026-07-10."""
    at = datetime.fromtimestamp(day_us // 1_000_000, UTC)
    return f"candles/minute/{code}/{side}/{at.year}/{at.month}/{at.day}"


def instrument_path(code: str) -> str:
    return f"instruments/{code}"


def _object(body: bytes, objects: int = 1) -> dict[str, Any]:
    """Decode the JSON object in `body`. An hour and a day of candles are one object of lists of numbers; a body with
    more objects, lists or strings is refused before decoding (24 MB of `{},` would take 600 MB)."""
    if (
        len(body) > MAX_BYTES
        or body.count(b"{") > objects
        or body.count(b"[") > 16 * objects
        or (body.count(b'"') > 64 * objects)
    ):
        raise WrongAnswer("JSON of an unknown format, or far too large")
    try:
        loaded = orjson.loads(body)
    except ValueError:
        raise WrongAnswer(f"not JSON (it starts with {body[:40]!r})") from None
    if not isinstance(loaded, dict):
        raise WrongAnswer("JSON, but not an object")
    return loaded


def _decimals(multiplier: Any) -> int:
    """Number of decimals of a multiplier: 1.0E-5 -> 5, tolerating float noise. Raises `WrongAnswer`."""
    if isinstance(multiplier, (int, float)) and not isinstance(multiplier, bool):
        for decimals in range(13):
            if abs(multiplier * 10**decimals - 1) < 1e-9:
                return decimals
    raise WrongAnswer(f"multiplier {multiplier!r} is not a power of ten")


def _whole(value: Any, what: str, decimals: int = 0) -> int:
    """Return a number as a multiple of 10^-decimals. Float noise (1.0860400000000001) is rounded off; half a unit is
    not noise. Raises `WrongAnswer` naming the value."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise WrongAnswer(f"{what} {value!r} is not a number")
    exact = Decimal(repr(value)).scaleb(decimals)
    if not exact.is_finite() or abs(exact) > MAX_UNITS:
        raise WrongAnswer(f"{what} {value!r} is out of range")
    whole = exact.to_integral_value()
    if abs(exact - whole) * 2 >= 1:
        raise WrongAnswer(f"{what} {value!r} is not a multiple of 1e-{decimals}")
    return int(whole)


def _list(data: dict[str, Any], name: str) -> list[Any]:
    found = data[name]
    if not isinstance(found, list):
        raise WrongAnswer(f"{name} is not a list")
    return found


def _integers(data: dict[str, Any], name: str) -> Column:
    """Return a list of whole numbers as a column; float noise is rounded off as in `_whole`."""
    column = np.array(_list(data, name))
    if column.dtype.kind not in "iuf" or column.ndim != 1:
        raise WrongAnswer(f"{name}: a list of integers holds something else")
    whole = np.rint(column) if column.dtype.kind == "f" else column
    bad = ~(np.abs(column - whole) < 0.5) | (whole > MAX_DELTA) | (whole < -MAX_DELTA)
    if bad.any():
        raise WrongAnswer(f"{name}: {column[bad][0]!s} is not a plausible whole number")
    exact: Column = whole.astype(np.int64)
    return exact


def _prices(data: dict[str, Any], start: str, deltas: str, decimals: int, price_scale: int) -> Column:
    """Return start value and deltas as integers with `price_scale` decimals."""
    prices: Column = _whole(data[start], start, decimals) + np.cumsum(_integers(data, deltas))
    if np.abs(prices).max() * 10.0 ** (price_scale - decimals) > MAX_UNITS:
        raise WrongAnswer(f"{deltas}: a price is out of range")
    prices *= 10 ** (price_scale - decimals)
    return prices


def _numbers(data: dict[str, Any], name: str) -> npt.NDArray[np.float64]:
    """Return a list of numbers as a column; NaN for an element that is not a number, which invalidates only its row."""
    values = _list(data, name)
    try:
        column = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        column = np.array([v if isinstance(v, (int, float)) else np.nan for v in values], dtype=np.float64)
    if column.ndim != 1:
        raise WrongAnswer(f"{name}: nested lists")
    return column


def _nothing(data: dict[str, Any], lists: tuple[str, ...], starts: tuple[str, ...]) -> bool:
    """Whether the answer is explicitly empty: every list is present and empty, every start is null."""
    return not any(_list(data, name) for name in lists) and all(data[name] is None for name in starts)


def _scale(data: dict[str, Any], price_scale: int) -> int:
    decimals = _decimals(data["multiplier"])
    if decimals > price_scale:
        raise BadData(
            "scale",
            f"the vendor's prices have {decimals} decimals, ours {price_scale}; set price_scale in "
            "DUKASCOPY_INSTRUMENTS_FILE.",
        )
    return decimals


def parse_hour(body: bytes, hour_us: int, price_scale: int, *, running: bool = False) -> Quotes:
    """Parse the quotes of an hour. Raises `WrongAnswer`, and `BadData` if our price scale is too coarse.

    `running`: the answer to `?from=`, of which only the part inside the hour is used.
    """
    try:
        data = _object(body)
        if _nothing(data, ("times", "bids", "asks"), ("bid", "ask")):
            return NO_QUOTES
        decimals = _scale(data, price_scale)
        offset_ms = _whole(data["timestamp"], "timestamp") - hour_us // 1000 + np.cumsum(_integers(data, "times"))
        bid = _prices(data, "bid", "bids", decimals, price_scale)
        ask = _prices(data, "ask", "asks", decimals, price_scale)
        volumes = [_numbers(data, name) for name in ("bidVolumes", "askVolumes")]
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise WrongAnswer(f"not an hour of quotes ({type(error).__name__}: {error})") from None
    if len({len(column) for column in (offset_ms, bid, ask, *volumes)}) != 1:
        raise WrongAnswer("lists of different lengths")
    inside = (offset_ms >= 0) & (offset_ms < HOUR_MS)
    # Times are deltas: if one is wrong, all later ones are.
    if not running and not inside.all():
        raise WrongAnswer("times outside the requested hour")
    (bid_size, ask_size), size_scale = decimals_of_units(*volumes)
    quotes = Quotes(offset_ms, bid, ask, bid_size, ask_size, size_scale)
    return judged(quotes if inside.all() else quotes.chosen(inside)).in_order()


def parse_minutes(body: bytes, day_us: int, price_scale: int) -> Column:
    """Parse the minute candles of one side and day into rows of minute, open, high, low, close (integers of our price
    scale), volume in hundredths of a unit. Minutes omitted by the vendor had no trading. Raises `WrongAnswer`,
    `BadData`."""
    names = ("open", "high", "low", "close")
    try:
        data = _object(body)
        if _nothing(data, ("times", "volumes"), names):
            return np.empty((6, 0), dtype=np.int64)
        decimals = _scale(data, price_scale)
        if _whole(data["shift"], "shift") != MINUTE_MS:
            raise WrongAnswer(f"shift {data['shift']!r} is not a minute")
        first = (_whole(data["timestamp"], "timestamp") - day_us // 1000) // MINUTE_MS
        minute = first + np.cumsum(_integers(data, "times"))
        prices = [_prices(data, name, f"{name}s", decimals, price_scale) for name in names]
        volumes = _numbers(data, "volumes")
        if not ((volumes >= 0) & (volumes * 1e6 <= MAX_SIZE)).all():
            raise WrongAnswer("volumes: an element is not a valid size")
        volume = np.rint(volumes * 1e8).astype(np.int64)
        return np.stack([minute, *prices, volume])
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise WrongAnswer(f"not a day of candles ({type(error).__name__}: {error})") from None


@dataclass(frozen=True)
class Description:
    """The vendor's description of an instrument."""

    price_scale: int
    first_tick_us: int | None
    holidays_ms: tuple[tuple[int, int], ...]


# Before the vendor existed: a first tick earlier than this, or in the future, is ignored.
_OLDEST_MS = 946_684_800_000  # 2000


def parse_description(body: bytes, now_us: int) -> Description:
    """`{"priceScale": 5, "holidays": [{"from": ms, "till": ms}], "histories": [{"period": "TICK", "from": ms}]}`"""
    try:
        data = _object(body, objects=10_000)
        holidays = tuple(
            (_whole(one["from"], "holidays.from"), _whole(one["till"], "holidays.till"))
            for one in data.get("holidays") or ()
        )
        told = [one["from"] for one in data.get("histories") or () if one["period"] == "TICK"]
        first_ms = _whole(told[0], "histories.from") if told else None
        if first_ms is not None and not _OLDEST_MS <= first_ms < now_us // 1000 - 24 * HOUR_MS:
            first_ms = None
        return Description(_whole(data["priceScale"], "priceScale"), first_ms and first_ms * 1000, holidays)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WrongAnswer(f"not a description of an instrument ({type(error).__name__}: {error})") from None
