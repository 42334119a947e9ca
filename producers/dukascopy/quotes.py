"""An hour of quotes as columns, and the conversion of float sizes into exact integers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import WrongAnswer
from pipeline.core.times import HOUR_MS
from schemas.columns import COLUMNS, Column

# Relative rounding error of arithmetic with doubles of at most 15 digits.
NOISE = 1e-15


@dataclass(frozen=True)
class Quotes:
    """Columns of equal length. bid and ask are integers with the instrument's price scale; sizes are integers with
    `size_scale` decimals in units of the base currency; offset_ms counts from the start of the hour, ascending."""

    offset_ms: Column
    bid: Column
    ask: Column
    bid_size: Column
    ask_size: Column
    size_scale: int = 0

    def __len__(self) -> int:
        return len(self.offset_ms)

    def median_price(self, price_scale: int) -> Decimal:
        """Return the exact median bid (the lower of two)."""
        middle = np.partition(self.bid, (len(self.bid) - 1) // 2)[(len(self.bid) - 1) // 2]
        return Decimal(int(middle)).scaleb(-price_scale)

    def in_order(self) -> Quotes:
        """Return the quotes sorted by time, in case the vendor's are not (never seen). The sort is stable."""
        if len(self) < 2 or (self.offset_ms[1:] >= self.offset_ms[:-1]).all():
            return self
        return self.chosen(np.argsort(self.offset_ms, kind="stable"))

    def chosen(self, rows: npt.NDArray[Any]) -> Quotes:
        """Return a selection of rows, by mask or by index."""
        return replace(self, **{name: getattr(self, name)[rows] for name in COLUMNS})


_NONE = np.empty(0, dtype=np.int64)
NO_QUOTES = Quotes(_NONE, _NONE, _NONE, _NONE, _NONE)


def judged(quotes: Quotes) -> Quotes:
    """Return the quotes if at most one row in a hundred (or a single one) is bad: outside the hour, or with an invalid
    size. Bad rows are kept, and the writer turns them into dead letters. Raises `WrongAnswer` for more: the hour is
    damaged."""
    bad = 0
    if len(quotes) and not (
        quotes.offset_ms.min() >= 0
        and quotes.offset_ms.max() < HOUR_MS
        and quotes.bid_size.min() >= 0 <= quotes.ask_size.min()
    ):
        rows = (quotes.offset_ms < 0) | (quotes.offset_ms >= HOUR_MS) | (quotes.bid_size < 0) | (quotes.ask_size < 0)
        bad = int(rows.sum())
    return bearable(quotes, bad, "have times outside the hour, or invalid sizes")


def bearable(quotes: Quotes, bad: int, why: str) -> Quotes:
    """Return `quotes`. Raises `WrongAnswer` if there are too many bad rows to trust the others."""
    if bad and (bad == len(quotes) or bad > max(1, len(quotes) // 100)):
        raise WrongAnswer(f"{bad} of {len(quotes)} rows {why}")
    return quotes


# Largest valid size, in units of the base currency. It keeps sums over an hour (`bi5.MAX_BYTES`) within 64 bits.
MAX_SIZE = 1e11
_MAX_SUM = 4e18


def units_of_millions(values: npt.NDArray[np.float32]) -> Column:
    """Convert bi5 sizes (float32, in millions) into hundredths of a unit; -1 for an invalid size.

    The vendor rounded decimals to the nearest float32, so the number meant is the shortest decimal that gives the same
    float32: 2.0599999 means 2.06 million, 0.000013 means 13. Two decimals suffice for all recorded currency pairs, six
    for Bitcoin; eight is a hundredth of a unit, as fine as the JSON feed's sizes.
    """
    good = (values >= 0) & (values <= MAX_SIZE / 1e6)  # neither holds for NaN
    if not good.all():
        exact = units_of_millions(np.where(good, values, np.float32(0)))
        exact[~good] = -1
        return exact
    found = _shortest(values, 2)
    if found is not None:
        return found * 10**6
    exact = np.zeros(len(values), dtype=np.int64)
    open_rows = np.arange(len(values))
    for decimals in range(9):
        scaled = np.rint(values[open_rows].astype(np.float64) * 10**decimals)
        hit = (scaled / 10**decimals).astype(np.float32) == values[open_rows]
        if decimals == 8:
            hit[:] = True
        exact[open_rows[hit]] = scaled[hit].astype(np.int64) * 10 ** (8 - decimals)
        open_rows = open_rows[~hit]
    return exact


def _shortest(values: npt.NDArray[np.float32], decimals: int) -> Column | None:
    """Return all values as integers with this many decimals, or None if some need more."""
    scaled = np.rint(values.astype(np.float64) * 10**decimals)
    fits = (scaled / 10**decimals).astype(np.float32) == values
    return scaled.astype(np.int64) if fits.all() else None


def without_needless_zeros(bid_size: Column, ask_size: Column, scale: int) -> tuple[Column, Column, int]:
    """Return both sizes with the smallest scale that keeps them integers."""
    # Mostly none is needed: one division for all of them instead of one each took half of the time, 13 ns a quote less.
    whole = 10**scale
    if not (bid_size % whole).any() and not (ask_size % whole).any():
        return bid_size // whole, ask_size // whole, 0
    while scale and not (bid_size % 10).any() and not (ask_size % 10).any():
        bid_size, ask_size, scale = bid_size // 10, ask_size // 10, scale - 1
    return bid_size, ask_size, scale


def decimals_of_units(*columns: npt.NDArray[np.float64]) -> tuple[list[Column], int]:
    """Convert JSON sizes (float64, in units) into integers with the fewest decimals that preserve them: 1.48 -> 148, 2.

    Float noise (1.4800000000000002) is rounded off, as are decimals beyond the twelfth. -1 for an invalid size.
    """
    good = [(column >= 0) & (column <= MAX_SIZE) for column in columns]  # neither holds for NaN
    sizes = [np.where(ok, column, 0.0) for ok, column in zip(good, columns, strict=True)]
    most = max((float(size.sum()) for size in sizes), default=0.0)
    for scale in range(13):
        scaled = [np.rint(size * 10**scale) for size in sizes]
        close = all(
            (np.abs(whole / 10**scale - size) <= size * NOISE).all() for whole, size in zip(scaled, sizes, strict=True)
        )
        if close or scale == 12 or most * 10 ** (scale + 1) > _MAX_SUM:
            break
    exact = [whole.astype(np.int64) for whole in scaled]
    for whole, ok in zip(exact, good, strict=True):
        whole[~ok] = -1
    return exact, scale
