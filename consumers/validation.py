"""Column checks shared by the writers, and exact decimals as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pipeline.core.times import OLDEST_US
from pipeline.database.copy import FRACTION_DIGITS, Ints, Split
from schemas.decimals import plain_digits
from schemas.trade_columns import PlainDecimals

_ZEROS = "0" * FRACTION_DIGITS
_POWERS = 10 ** np.arange(FRACTION_DIGITS + 1, dtype=np.int64)


def time_ok(timestamp_us: npt.NDArray[np.int64], latest_us: int | npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which times lie between 2000 and `latest_us`, one for all rows or one per row (`fields.latest_us`)."""
    ok: npt.NDArray[np.bool_] = (timestamp_us >= OLDEST_US) & (timestamp_us <= latest_us)
    return ok


@dataclass(frozen=True)
class Decimals:
    """Decimals as columns: integer part, fraction with 18 decimals, number of decimals as written.

    `problem[i]` is the error of value i. Values without one are finite, not negative and fit 16 + 18 digits.
    """

    whole: Ints
    fraction: Ints
    decimals: Ints
    problem: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> Self:
        """Parse texts in any notation."""
        problem: dict[int, str] = {}
        whole, fraction, decimals = [], [], []
        for i, text in enumerate(texts):
            try:
                a, _, b = plain_digits(text).partition(".")
            except ValueError as error:
                a, b, problem[i] = "0", "", str(error)
            whole.append(int(a))
            fraction.append(int((b + _ZEROS)[:FRACTION_DIGITS]) if b else 0)
            decimals.append(len(b))
        return cls(
            np.array(whole, dtype=np.int64),
            np.array(fraction, dtype=np.int64),
            np.array(decimals, dtype=np.int64),
            problem,
        )

    @classmethod
    def of_units(cls, value: PlainDecimals) -> Self:
        """Convert integers with a number of decimals each, which must fit into 16 + 18 digits."""
        whole, rest = np.divmod(value.units, _POWERS[value.decimals])
        return cls(whole, rest * _POWERS[FRACTION_DIGITS - value.decimals], value.decimals)

    @classmethod
    def joined(cls, parts: Sequence[tuple[Decimals, Ints]]) -> Self:
        """Concatenate the given rows of columns."""
        problem: dict[int, str] = {}
        first = 0
        for part, rows in parts:
            for i, row in enumerate(rows.tolist()) if part.problem else ():
                if row in part.problem:
                    problem[first + i] = part.problem[row]
            first += len(rows)
        return cls(
            np.concatenate([part.whole[rows] for part, rows in parts]),
            np.concatenate([part.fraction[rows] for part, rows in parts]),
            np.concatenate([part.decimals[rows] for part, rows in parts]),
            problem,
        )

    @property
    def positive(self) -> npt.NDArray[np.bool_]:
        """Which values are above zero."""
        ok: npt.NDArray[np.bool_] = (self.whole > 0) | (self.fraction > 0)
        return ok

    def ok(self) -> npt.NDArray[np.bool_]:
        """Return which values have no problem."""
        good = np.ones(len(self.whole), dtype=bool)
        good[list(self.problem)] = False
        return good

    def column(self, chosen: npt.NDArray[Any]) -> Split:
        """Return the chosen values as a `numeric` column."""
        return Split(self.whole[chosen], self.fraction[chosen], self.decimals[chosen])
