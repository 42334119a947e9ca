"""Candles made from the tape, the way every venue's candle endpoint shows them."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from simulator.market import SECOND_NS
from simulator.tape import Tape


class Candle(NamedTuple):
    """Prices and volume in units of the product's decimals; `start_s` is Unix seconds."""

    start_s: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    vwap: int
    trades: int


def _make(tape: Tape, from_s: int, to_s: int, width_s: int, until_ns: int) -> list[Candle]:
    first = tape.last_id_at(from_s * SECOND_NS - 1) + 1
    last = tape.last_id_at(min(to_s * SECOND_NS - 1, until_ns))
    trades = tape.trades(first, last)
    if not len(trades):
        return []
    bucket = trades.ts_ns // (width_s * SECOND_NS)
    starts = np.flatnonzero(np.diff(bucket, prepend=bucket[0] - 1))
    ends = np.append(starts[1:], len(trades))
    high, low = np.maximum.reduceat(trades.price, starts), np.minimum.reduceat(trades.price, starts)
    volume = np.add.reduceat(trades.quantity, starts)
    paid = np.add.reduceat(trades.price.astype(np.float64) * trades.quantity, starts)
    columns = (
        bucket[starts] * width_s, trades.price[starts], high, low, trades.price[ends - 1], volume,
        np.rint(paid / volume).astype(np.int64), ends - starts,
    )  # fmt: skip
    return [Candle(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


# A week of one product at three venues is 504 hours (15 MB as minutes); an hour of 4 trades a second costs 10 ms.
@lru_cache(maxsize=600)
def _whole(tape: Tape, version: int, hour: int, width_s: int) -> tuple[Candle, ...]:
    return tuple(_make(tape, hour * 3600, hour * 3600 + 3600, width_s, (hour + 1) * 3600 * SECOND_NS))


def candles(tape: Tape, from_s: int, to_s: int, width_s: int, until_ns: int) -> list[Candle]:
    """The candles that begin in [from_s, to_s), of trades up to `until_ns`; a bucket without a trade is missing."""
    from_s = -(-from_s // width_s) * width_s
    if 3600 % width_s:
        return _make(tape, from_s, to_s, width_s, until_ns)
    found: list[Candle] = []
    edits = len(tape.edits.holes) + 1000 * len(tape.edits.bursts)
    for hour in range(from_s // 3600, -(-to_s // 3600)):
        if (hour + 1) * 3600 * SECOND_NS <= until_ns:
            whole = _whole(tape, edits, hour, width_s)
            found += [candle for candle in whole if from_s <= candle.start_s < to_s]
        else:
            found += _make(tape, max(from_s, hour * 3600), min(to_s, hour * 3600 + 3600), width_s, until_ns)
    return found
