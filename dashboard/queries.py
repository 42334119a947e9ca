"""Queries of the charts: instruments, candles of the views, gaps as intervals of time.

Prices and volumes are exact decimals as text, times whole seconds since 1970.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from dashboard.store import Store
from pipeline.core.timeframes import TIMEFRAMES, Timeframe
from pipeline.core.times import from_us, to_us
from pipeline.database.sql import statement
from pipeline.stream.instruments import KNOWN, Instrument
from pipeline.stream.running import text_of
from venues.adapter import Proof

MOST_CANDLES = 5_000
MOST_GAPS = 500


async def instruments(store: Store) -> list[Instrument]:
    """Return all instruments with stored or requested data, by venue and product."""
    found = await store.rows(Instrument, KNOWN + " ORDER BY i.venue, i.product_id")
    return [one for one in found if one.kind is not None]


async def instrument(store: Store, venue: str, product_id: str) -> Instrument | None:
    found = await store.rows(Instrument, KNOWN + " WHERE i.venue = %s AND i.product_id = %s", (venue, product_id))
    return next((one for one in found if one.kind is not None), None)


def candle_row(
    bucket: datetime,
    open: Decimal,
    high: Decimal,
    low: Decimal,
    close: Decimal,
    volume: Decimal,
    vwap: Decimal | None,
    ticks: int,
) -> list[Any]:
    """Return [seconds, open, high, low, close, volume, vwap, ticks] of a row of the candle views."""
    return [to_us(bucket) // 1_000_000, *map(text_of, (open, high, low, close, volume, vwap)), ticks]


_COLUMNS = "bucket, open, high, low, close, volume, vwap, ticks"


async def candles_between(
    store: Store, venue: str, product_id: str, timeframe: Timeframe, from_us_: int, to_us_: int
) -> list[list[Any]]:
    """Return all candles of `[from, to)`, ascending."""
    return await store.rows(
        candle_row,
        f"SELECT {_COLUMNS} FROM candles_{timeframe.name} WHERE venue = %s AND product_id = %s"  # noqa: S608
        " AND bucket >= %s AND bucket < %s ORDER BY bucket",
        (venue, product_id, from_us(from_us_), from_us(to_us_)),
    )


async def consensus_between(
    store: Store, product_id: str, timeframe: Timeframe, from_us_: int, to_us_: int, limit: int
) -> tuple[list[list[Any]], bool]:
    """Return the consensus of exchanges as the last `limit` candles of `[from, to)`, ascending, and whether there are
    older ones; the last column is of how many exchanges."""
    rows = await store.rows(
        candle_row,
        "SELECT bucket, open, high, low, close, volume, NULL::numeric AS vwap, cardinality(exchanges) AS ticks"  # noqa: S608
        f" FROM consensus_candles_{timeframe.name} WHERE product_id = %s AND bucket >= %s AND bucket < %s"
        " ORDER BY bucket DESC LIMIT %s",
        (product_id, from_us(from_us_), from_us(to_us_), limit + 1),
    )
    return rows[:limit][::-1], len(rows) > limit


@dataclass(frozen=True)
class _Stored:
    """The newest candle before a time, and the oldest of all."""

    newest: datetime | None
    oldest: datetime | None


async def candles_before(
    store: Store, one: Instrument, timeframe: Timeframe, before_us: int | None, limit: int, from_us_: int = 0
) -> tuple[list[list[Any]], bool]:
    """Return the last `limit` candles of `[from, before)` (None: up to the newest), and whether there are older ones.

    The view is queried by interval, never for "the last n rows", for which it would have to compute all.
    """
    table = "trade_candle_1h" if one.kind == "trades" else "quote_candle_1h"
    query = (
        "SELECT max(bucket) FILTER (WHERE bucket < %(end)s) AS newest, min(bucket) AS oldest"  # noqa: S608
        f" FROM {table} WHERE instrument_id = %(id)s AND bucket >= %(first)s"
    )
    first = from_us(from_us_ - from_us_ % 3_600_000_000)
    end = to_us(datetime(2200, 1, 1, tzinfo=UTC)) if before_us is None else before_us
    span = (limit + 1) * timeframe.width_us
    found: list[list[Any]] = []
    while len(found) <= limit and end > from_us_:
        asked = {"end": from_us(end), "id": one.instrument_id, "first": first}
        (stored,) = await store.rows(_Stored, query, asked)
        if stored.newest is None or stored.oldest is None:
            break
        end = min(end, to_us(stored.newest) + 3_600_000_000)  # skip weekends and years without data in one step
        begin = max(timeframe.bucket_us(one_us) for one_us in (to_us(stored.oldest), end - span, from_us_))
        found = await candles_between(store, one.venue, one.product_id, timeframe, begin, end) + found
        end, span = begin, min(span * 4, MOST_CANDLES * timeframe.width_us)
    return found[-limit:], len(found) > limit


@dataclass(frozen=True)
class Interval:
    """An interval with missing data. `state`: `missing` (will be fetched), `explained` (will never come, see `reason`)
    or `partial`. Times in seconds since 1970; `count` of trades or hours."""

    from_s: float
    to_s: float
    state: str
    reason: str
    count: int | None
    first_id: int | None = None
    last_id: int | None = None

    def json(self) -> dict[str, Any]:
        return asdict(self)


# By kind of proof. Without a proof nothing is known to be missing.
_GAPS = {
    Proof.IDS: "gaps_trades",
    Proof.SEQUENCE: "gaps_time",
    Proof.WINDOWS: "gaps_time",
    Proof.HOURS: "gaps_quotes",
    Proof.SAMPLED: "gaps_sampled",
}


async def gaps(store: Store, one: Instrument, from_us_: int, to_us_: int, most: int = MOST_GAPS) -> list[Interval]:
    """Return what is missing or explained in `[from, to)`, newest first, at most `most`, missing data preferred.
    Missing trades have the times of their neighbours."""
    if one.proof is None:
        return []
    query = _GAPS[Proof(one.proof)]
    return await store.rows(
        Interval,
        statement(f"dashboard/{query}"),
        {"id": one.instrument_id, "from": from_us(from_us_), "to": from_us(to_us_), "most": most},
    )


def frames() -> list[str]:
    return list(TIMEFRAMES)
