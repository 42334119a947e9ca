"""Column checks of an hour of quotes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import BadData
from pipeline.core.times import HOUR_MS
from schemas.columns import COLUMNS, QuoteHour

MOST = 10**15 - 1  # of a price or a size as an integer
MOST_SUM = 9 * 10**18  # largest sum without overflow of int64
MAY_BE_NEGATIVE = ("commodity",)  # oil has traded below zero


def good_rows(quotes: QuoteHour, asset_class: str, refuse: Callable[[str, int], None]) -> QuoteHour:
    """Return the valid rows; calls `refuse(reason, row)` for each of the others."""
    lowest = -MOST if asset_class in MAY_BE_NEGATIVE else 1
    bounds = (
        ("time", quotes.offset_ms, 0, HOUR_MS - 1),
        ("price", quotes.bid, lowest, MOST),
        ("price", quotes.ask, lowest, MOST),
        ("size", quotes.bid_size, 0, MOST),
        ("size", quotes.ask_size, 0, MOST),
    )
    if not len(quotes) or all(low <= c.min() and c.max() <= high for _, c, low, high in bounds):
        return quotes  # the usual case: the extremes are valid
    good = np.ones(len(quotes), dtype=bool)
    for reason, column, low, high in bounds:
        ok = (column >= low) & (column <= high)
        for row in np.flatnonzero(good & ~ok).tolist():
            refuse(reason, row)
        good &= ok
    return _chosen(quotes, good)


def in_order(quotes: QuoteHour) -> QuoteHour:
    """Return the quotes sorted by time. Stable: quotes of one millisecond keep their order."""
    if (quotes.offset_ms[1:] < quotes.offset_ms[:-1]).any():
        return _chosen(quotes, np.argsort(quotes.offset_ms, kind="stable"))
    return quotes


def check_sums(quotes: QuoteHour) -> None:
    """Raise `BadData` if a candle's sums exceed 64-bit integers. Computed in floats: only the magnitude matters."""
    for reason, column in (("size", quotes.bid_size), ("size", quotes.ask_size), ("price", quotes.ask - quotes.bid)):
        if len(column) * MOST * 2 > MOST_SUM and np.abs(column).sum(dtype=np.float64) > MOST_SUM:
            raise BadData(reason, f"the {reason}s of this hour add up to more than {MOST_SUM:,}")


def _chosen(quotes: QuoteHour, rows: npt.NDArray[Any]) -> QuoteHour:
    """Return a selection of rows, by mask or by index."""
    return QuoteHour(quotes.header, *(getattr(quotes, name)[rows] for name in COLUMNS))


def running_number(offset_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number the quotes of each millisecond: 0, 1, 2 ..."""
    place = np.arange(len(offset_ms), dtype=np.int64)
    if len(offset_ms) < 2 or (offset_ms[1:] != offset_ms[:-1]).all():
        return np.zeros(len(offset_ms), dtype=np.int64)
    starts = np.r_[True, offset_ms[1:] != offset_ms[:-1]]
    return place - np.maximum.accumulate(np.where(starts, place, 0))
