"""Column checks shared by the writers, and exact decimals as columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from consumers.fields import ASSET
from pipeline.broker.topics import venue_and_product
from pipeline.core.errors import BadData, WrongUse
from pipeline.core.products import canonical_product
from pipeline.core.times import OLDEST_US
from pipeline.database.copy import FRACTION_DIGITS, Ints, Split
from schemas.trade_columns import PlainDecimals

PLAIN_DECIMAL = re.compile(r"(\d{1,16})(?:\.(\d{1,18}))?", re.ASCII)
"""What can be stored as it is written."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?([eE][+-]?\d{1,4})?|NaN|Infinity)", re.ASCII)  # Decimal itself takes more
_ZEROS = "0" * FRACTION_DIGITS
_TOO_LONG = "more than 16 digits before or 18 after the point"
_LONGEST = 60  # characters; longer texts have more digits than can be stored and are not parsed
_SMALLEST = -FRACTION_DIGITS - _LONGEST  # smallest exponent that is written out
_POWERS = 10 ** np.arange(FRACTION_DIGITS + 1, dtype=np.int64)


@lru_cache(maxsize=10_000)  # the same few answers for millions of messages
def check_address(topic: str, venue: str, product_id: str, asset_class: str) -> None:
    """Raise `BadData` if venue or product are not the topic's, or one of the three is invalid."""
    if (venue, product_id) != venue_and_product(topic):
        raise BadData("topic", f"message of {venue:.40} {product_id:.40} on {topic}")
    try:
        good = canonical_product(product_id) == product_id
    except WrongUse:
        good = False
    if not good:
        raise BadData("product", f"{product_id!r} is not a canonical product id")
    if problem := ASSET.problem(asset_class):
        raise BadData(ASSET.reason, problem)


def time_ok(timestamp_us: npt.NDArray[np.int64], latest_us: int | npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Check times: from 2000 to `latest_us`, one for all rows or one per row (`fields.latest_us`)."""
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
        """Convert integers with their number of decimals, which must fit."""
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
        ok: npt.NDArray[np.bool_] = (self.whole > 0) | (self.fraction > 0)
        return ok

    def ok(self) -> npt.NDArray[np.bool_]:
        good = np.ones(len(self.whole), dtype=bool)
        good[list(self.problem)] = False
        return good

    def column(self, chosen: npt.NDArray[Any]) -> Split:
        """Return the chosen values as a `numeric` column."""
        return Split(self.whole[chosen], self.fraction[chosen], self.decimals[chosen])


def plain_digits(text: str) -> str:
    """Return a decimal as it is stored: digits and at most one point. Raises `ValueError` with its error."""
    if PLAIN_DECIMAL.fullmatch(text):
        return text
    plain = _plain(text)
    if plain is None or not PLAIN_DECIMAL.fullmatch(plain):
        raise ValueError(_problem(text))
    return plain


def _plain(text: str) -> str | None:
    """Convert another notation (`1E-7`) to plain digits; None if it cannot be stored."""
    if len(text) > _LONGEST or not _NUMBER.fullmatch(text):
        return None
    value = Decimal(text)
    if not value.is_finite() or value < 0 or (value and not _SMALLEST <= value.adjusted() <= _LONGEST):
        return None  # not 10,000 zeros of 1e9999
    return format(value, "f") if value else "0"


def _problem(text: str) -> str:
    """Return the error of a text that cannot be stored."""
    if len(text) > _LONGEST:
        return f"{len(text):,} characters"
    if not _NUMBER.fullmatch(text):
        return "not a number"
    value = Decimal(text)
    if not value.is_finite():
        return "not finite"
    return "negative" if value < 0 else _TOO_LONG
