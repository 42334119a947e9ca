"""Candles computed from the tape, as the venues' candle endpoints return them."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from simulator.faults import FaultBoard
from simulator.market import SECOND_NS, Product
from simulator.tape import Tape

ROW_KINDS = ("nan-row", "odd-bucket", "float-noise")


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
        bucket[starts] * width_s,
        trades.price[starts],
        high,
        low,
        trades.price[ends - 1],
        volume,
        np.rint(paid / volume).astype(np.int64),
        ends - starts,
    )
    return [Candle(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


# A week of one product at three venues is 504 hours (15 MB as minutes); an hour of 4 trades a second costs 10 ms.
@lru_cache(maxsize=600)
def _whole(tape: Tape, version: int, hour: int, width_s: int) -> tuple[Candle, ...]:
    return tuple(_make(tape, hour * 3600, hour * 3600 + 3600, width_s, (hour + 1) * 3600 * SECOND_NS))


def candles(tape: Tape, from_s: int, to_s: int, width_s: int, until_ns: int) -> list[Candle]:
    """The candles that begin in [from_s, to_s), of trades up to `until_ns`; a bucket without a trade is missing."""
    from_s, to_s = (-(-at_s // width_s) * width_s for at_s in (from_s, to_s))  # the last one is whole, too
    if width_s > 60 and width_s % 60 == 0:
        minutes = candles(tape, from_s, to_s, 60, until_ns)
        grouped = groupby(minutes, lambda minute: minute.start_s // width_s * width_s)
        return [_joined(start_s, list(parts)) for start_s, parts in grouped]
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


def _joined(start_s: int, parts: list[Candle]) -> Candle:
    """Join cached minutes: reading the trades again takes 70 ms an hour."""
    volume = sum(part.volume for part in parts)
    return Candle(
        start_s,
        parts[0].open,
        max(part.high for part in parts),
        min(part.low for part in parts),
        parts[-1].close,
        volume,
        round(sum(part.vwap * part.volume for part in parts) / volume),
        sum(part.trades for part in parts),
    )


def unsettled(faults: FaultBoard, product: Product, made: list[Candle], width_s: int, now_ns: int) -> list[Candle]:
    """With the faults `settling` (the volume grows for a while after the close) and `newest-only` in force."""
    if fault := faults.active(product.venue, "settling", product.symbol):
        share, until_ns = float(fault.options.get("share", 0.8)), float(fault.options.get("settle", 30.0)) * SECOND_NS
        made = [
            candle._replace(volume=max(1, int(candle.volume * share)))
            if (candle.start_s + width_s) * SECOND_NS + until_ns > now_ns
            else candle
            for candle in made
        ]
    if fault := faults.active(product.venue, "newest-only", product.symbol):
        made = made[-int(fault.options.get("most", 500)) :]
    return made


def spoilt(
    faults: FaultBoard, product: Product, rows: list[Any], width_s: int, time: Any, close: Any, volume: Any
) -> list[Any]:
    """Rows as they go out, with `nan-row`, `odd-bucket` and `float-noise` in force; the keys name their columns.

    The first two strike the candles that begin at a multiple of `every` candles (default 10).
    """
    kinds = {kind: faults.active(product.venue, kind, product.symbol) for kind in ROW_KINDS} if faults.any else {}
    made = []
    for given in rows:
        row = given.copy()
        unit = 1000 if int(row[time]) > 10**11 else 1
        begins = int(row[time]) // unit
        for kind, fault in kinds.items():
            options = fault.options if fault else {}
            struck = fault is not None and begins // width_s % int(options.get("every", 10)) == 0
            if kind == "nan-row" and struck:
                value = options.get("value", "nan")
                row[close] = {"nan": math.nan, "inf": math.inf, "none": None}.get(str(value), value)
            elif kind == "odd-bucket" and struck:
                row[time] = type(row[time])((begins + int(options.get("off", 30))) * unit)
            elif kind == "float-noise" and fault:
                whole, _, fraction = str(row[volume]).partition(".")
                row[volume] = f"{whole}.{fraction:0<18}1"
        made.append(row)
    return made
