"""Parse the rows of an exchange's answer one by one; a bad row does not affect the others. Times in µs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pipeline.core.errors import BadData
from pipeline.core.times import END_US, OLDEST_US
from venues.candle_source import Units
from venues.floats import without_noise

Values = tuple[str, str, str, str, str]  # open, high, low, close, volume, as published
NAMES = ("open", "high", "low", "close", "volume")
MAX_PAYLOAD = 64 * 1024
WEEK_US = 604_800_000_000
MONDAY_US = 345_600_000_000  # 1970-01-05; weeks begin on Monday


@dataclass(frozen=True)
class Refused:
    """A row that is not a valid candle. `bucket_us` is None if it has no valid time."""

    bucket_us: int | None
    reason: str  # shape, time, bucket, price, volume, twice
    detail: str
    payload: bytes


@dataclass
class Rows:
    """The rows of an answer: candles by bucket, None where the exchange itself says that nothing was traded."""

    good: dict[int, Values | None] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)


def floor_us(moment_us: int, width_us: int) -> int:
    """Return the start of the candle that contains this time."""
    origin = MONDAY_US if width_us % WEEK_US == 0 else 0
    return (moment_us - origin) // width_us * width_us + origin


def same(one: Values | None, other: Values | None) -> bool:
    """Whether two candles are equal; 12.50 equals 12.5."""
    if one is None or other is None or one == other:
        return one == other
    return all(Decimal(a) == Decimal(b) for a, b in zip(one, other, strict=True))


def read_rows(pairs: Iterable[tuple[Any, Any]], width_us: int, units: Units) -> Rows:
    """Parse rows given as (made row, row as it came), see `GivenCandles`."""
    rows = Rows()
    twice: set[int] = set()
    for made, raw in pairs:
        bucket: int | None = None
        try:
            bucket = _bucket(made)
            if off := bucket - floor_us(bucket, width_us):
                raise BadData("bucket", f"starts {off / 1e6:g} s after a multiple of the candle's width")
            values = _values(made, units)
        except BadData as error:
            rows.refused.append(Refused(bucket, error.reason, str(error)[:500], _payload(raw)))
            continue
        if bucket in rows.good and not same(rows.good[bucket], values):
            del rows.good[bucket]
            twice.add(bucket)
            rows.refused.append(Refused(bucket, "twice", "two different candles for one time", _payload(raw)))
        elif bucket not in twice:
            rows.good[bucket] = values
    return rows


def _bucket(made: Any) -> int:
    if isinstance(made, Exception):
        raise BadData("shape", f"{type(made).__name__}: {made}")
    if not isinstance(made, (list, tuple)) or len(made) < 6:
        raise BadData("shape", "not a row of time, open, high, low, close, volume")
    stamp = made[0]
    if isinstance(stamp, bool) or not isinstance(stamp, int) or not OLDEST_US <= stamp * 1000 < END_US:
        raise BadData("time", f"{str(stamp)[:40]} is not a valid candle time")
    return stamp * 1000


def _values(made: Sequence[Any], units: Units) -> Values | None:
    if made[1] is made[2] is made[3] is made[4] is None and made[5] is not None and _number("volume", made[5]) == "0":
        return None
    prices = [_number(name, value, units.price) for name, value in zip(NAMES, made[1:5], strict=False)]
    volume = _number("volume", made[5], units.volume)
    for name, price in zip(NAMES, prices, strict=False):
        if Decimal(price) <= 0:
            raise BadData("price", f"{name}: {price}")
    if Decimal(volume) < 0:
        raise BadData("volume", f"volume: {volume}")
    return prices[0], prices[1], prices[2], prices[3], volume


def _number(name: str, value: Any, unit: Decimal | None = None) -> str:
    reason = "volume" if name == "volume" else "price"
    if value is None:
        raise BadData(reason, f"{name}: missing")
    try:
        text = without_noise(value, unit)
    except BadData as error:
        raise BadData(reason, f"{name}: {error}"[:200]) from None
    return text if Decimal(text) else "0"


def _payload(raw: Any) -> bytes:
    try:
        return json.dumps(raw, default=str).encode()[:MAX_PAYLOAD]
    except (ValueError, RecursionError, TypeError):
        return repr(raw)[:MAX_PAYLOAD].encode(errors="replace")
