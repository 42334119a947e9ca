"""Encode the trades of a batch for the database: rows for COPY, candles of minutes, ranges of ids.

The ledger decides which ids are new; everything else follows from the rows themselves. Measured with batches of 5,000:
numpy prepares a trade in 0.75 us; doing it in SQL, from a temporary table, took the database 2.8 us more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consumers.trade_block import TradeList
from consumers.validation import Decimals
from pipeline.core.products import ORIGINS, TAKER_SIDES
from pipeline.database.arrays import Array, parameters
from pipeline.database.copy import FRACTION_DIGITS, Field, Int4, Int8, Ints, Scaled, Time, Word, rows

MINUTE_US = 60_000_000
_IS_LIVE = np.array([origin in ("live", "snapshot") for origin in ORIGINS])
_NONE = np.iinfo(np.int64).max  # as in trades_store.sql
_MOST_INT64 = 10**18

Units = Ints | npt.NDArray[np.object_]


@dataclass(frozen=True)
class TradeRows:
    """Encoded trades, sorted by instrument and id, without duplicate ids."""

    copy: memoryview
    """Rows of `trades`."""
    values: dict[str, Array]
    """Parameters of sql/trades_store.sql: candles, and the ranges of ids."""


def encode(trades: TradeList, chosen: Ints, instrument: Ints, origin: Ints) -> TradeRows:
    """Encode the rows `chosen` of `trades`, at least one, sorted by instrument and id.

    `instrument` (id) and `origin` (index into `ORIGINS`) have one element per chosen row.
    """
    trade_id, ts = trades.trade_id[chosen], trades.timestamp_us[chosen]
    price, quantity = _Exact.of(trades.price, chosen), _Exact.of(trades.quantity, chosen)
    body = rows(
        [
            Int4(instrument),
            Int8(trade_id),
            Time(ts),
            price.scaled(),
            quantity.scaled(),
            Word(trades.side[chosen], TAKER_SIDES),
            Word(origin, ORIGINS),
        ]
    )
    return TradeRows(
        body, _runs(instrument, trade_id, ts, origin) | _minutes(instrument, trade_id, ts, price, quantity)
    )


@dataclass(frozen=True)
class _Exact:
    """Decimals as integers with one scale; Python integers if int64 is too small. `decimals`: decimal places as
    written."""

    units: Units
    scale: int
    decimals: Ints

    @classmethod
    def of(cls, value: Decimals, chosen: Ints) -> _Exact:
        decimals = value.decimals[chosen]
        scale = int(decimals.max())
        whole, rest = value.whole[chosen], value.fraction[chosen] // 10 ** (FRACTION_DIGITS - scale)
        fits = int(whole.max()) < _MOST_INT64 // 10**scale
        return cls((whole if fits else whole.astype(object)) * 10**scale + rest, scale, decimals)

    def times(self, other: _Exact) -> _Exact:
        """Return the products, in a type that holds the sum of all of them."""
        most = int(self.units.max()) * int(other.units.max()) * len(self.units)
        units = self.units if most < _MOST_INT64 else self.units.astype(object)
        return _Exact(units * other.units, self.scale + other.scale, self.decimals + other.decimals)

    def scaled(self, rows: Ints | slice = slice(None)) -> Scaled:
        return Scaled(self.units[rows], self.scale, self.decimals[rows])

    def sums(self, first: Ints) -> Scaled:
        """Return the sum of each group; `first`: where the groups start."""
        if len(first) == len(self.units):
            return self.scaled()
        units = self.units if int(self.units.max()) * len(self.units) < _MOST_INT64 else self.units.astype(object)
        return Scaled(np.add.reduceat(units, first), self.scale, np.maximum.reduceat(self.decimals, first))

    def extremes(self, which: np.ufunc, first: Ints, lengths: Ints) -> Scaled:
        """Return the highest or lowest value of each group, with the decimals it was written with."""
        if len(first) == len(self.units):
            return self.scaled()
        found = which.reduceat(self.units, first)
        decimals = np.where(self.units == np.repeat(found, lengths), self.decimals, 0)
        return Scaled(found, self.scale, np.maximum.reduceat(decimals, first))


def groups(*changed: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Return the first and the last row of each group. `changed`: for each key, between which rows it changes."""
    first = np.flatnonzero(np.r_[True, np.logical_or.reduce(changed)])
    return first, np.r_[first[1:], len(changed[0]) + 1] - 1


def _runs(instrument: Ints, trade_id: Ints, ts: Ints, origin: Ints) -> dict[str, Array]:
    """Return the ranges of contiguous ids, each with its latest time and its first live id."""
    first, last = groups(np.diff(instrument) != 0, np.diff(trade_id) != 1)
    live = np.where(_IS_LIVE[origin], trade_id, _NONE)
    return parameters(
        {
            "run_of": Int4(instrument[first]),
            "run_low": Int8(trade_id[first]),
            "run_high": Int8(trade_id[last] + 1),
            "run_last_ts": Time(np.maximum.reduceat(ts, first)),
            "run_live_from": Int8(np.minimum.reduceat(live, first)),
        }
    )


def _minutes(instrument: Ints, trade_id: Ints, ts: Ints, price: _Exact, quantity: _Exact) -> dict[str, Array]:
    """Return one candle per instrument and minute."""
    bucket = ts // MINUTE_US
    order = np.lexsort((trade_id, bucket, instrument))
    instrument, trade_id, bucket = instrument[order], trade_id[order], bucket[order]
    price, quantity = (_Exact(one.units[order], one.scale, one.decimals[order]) for one in (price, quantity))
    first, last = groups(np.diff(instrument) != 0, np.diff(bucket) != 0)
    ticks = last - first + 1
    fields: dict[str, Field] = {
        "instrument": Int4(instrument[first]),
        "bucket": Time(bucket[first] * MINUTE_US),
        "open": price.scaled(first),
        "high": price.extremes(np.maximum, first, ticks),
        "low": price.extremes(np.minimum, first, ticks),
        "close": price.scaled(last),
        "volume": quantity.sums(first),
        "turnover": price.times(quantity).sums(first),
        "ticks": Int8(ticks),
        "first_id": Int8(trade_id[first]),
        "last_id": Int8(trade_id[last]),
    }
    return parameters(fields)
