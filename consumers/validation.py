"""Column checks that every writer makes, and decimals taken apart exactly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt

from consumers.fields import ASSET
from pipeline.broker.topics import venue_and_product
from pipeline.core.errors import BadData, WrongUse
from pipeline.core.products import canonical_product
from pipeline.core.times import OLDEST_US
from pipeline.database.copy import FRACTION_DIGITS, Ints, Split
from schemas.trade_columns import PlainDecimals

_PLAIN = re.compile(r"(\d{1,16})(?:\.(\d{1,18}))?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?([eE][+-]?\d{1,4})?|NaN|Infinity)", re.ASCII)  # Decimal itself takes more
_ZEROS = "0" * FRACTION_DIGITS
_TOO_LONG = "more digits than 16 before and 18 behind the point"
_LONGEST = 60  # characters; what is longer has more digits than can be stored, and is not even looked at
_SMALLEST = -FRACTION_DIGITS - _LONGEST  # place of the first digit of a number that is written out
_POWERS = 10 ** np.arange(FRACTION_DIGITS + 1, dtype=np.int64)


@lru_cache(maxsize=10_000)  # the same few answers for millions of messages
def check_address(topic: str, venue: str, product_id: str, asset_class: str) -> None:
    """Raise `BadData` when venue or product are not the topic's, or one of the three cannot be."""
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
    """From 2000 to the latest that is taken, one for all rows or one a row (`fields.latest_us`)."""
    ok: npt.NDArray[np.bool_] = (timestamp_us >= OLDEST_US) & (timestamp_us <= latest_us)
    return ok


@dataclass(frozen=True)
class Decimals:
    """Decimals as columns: whole part, fraction with 18 decimals, number of decimals written.

    `problem[i]` says what is wrong with value i. `ok` are finite, not negative and fit 16 + 18 digits.
    """

    whole: Ints
    fraction: Ints
    decimals: Ints
    problem: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> Self:
        """From texts in any notation."""
        problem: dict[int, str] = {}
        whole, fraction, decimals = [], [], []
        match = _PLAIN.fullmatch
        for i, text in enumerate(texts):
            found = match(text)
            if found is None:
                plain = _plain(text)
                if plain is None or (found := match(plain)) is None:
                    problem[i] = _problem(text)
            a, b = found.groups("") if found else ("0", "")
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
        """From integers with their number of decimals, which fit."""
        whole, rest = np.divmod(value.units, _POWERS[value.decimals])
        return cls(whole, rest * _POWERS[FRACTION_DIGITS - value.decimals], value.decimals)

    @classmethod
    def joined(cls, parts: Sequence[tuple[Decimals, slice]]) -> Self:
        """Ranges of columns, one after the other."""
        problem: dict[int, str] = {}
        first = 0
        for part, rows in parts:
            for i in [i for i in part.problem if rows.start <= i < rows.stop]:
                problem[first + i - rows.start] = part.problem[i]
            first += rows.stop - rows.start
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

    def column(self, chosen: npt.NDArray[np.bool_]) -> Split:
        """The chosen values as a `numeric` column."""
        return Split(self.whole[chosen], self.fraction[chosen], self.decimals[chosen])


def _plain(text: str) -> str | None:
    """Another notation (`1E-7`) in plain digits; None for what is no number that can be stored."""
    if len(text) > _LONGEST or not _NUMBER.fullmatch(text):
        return None
    value = Decimal(text)
    if not value.is_finite() or value < 0 or (value and not _SMALLEST <= value.adjusted() <= _LONGEST):
        return None  # not 10,000 zeros of 1e9999
    return format(value, "f") if value else "0"


def _problem(text: str) -> str:
    """What is wrong with a text that `_plain` or the number of digits refused."""
    if len(text) > _LONGEST:
        return f"{len(text):,} characters"
    if not _NUMBER.fullmatch(text):
        return "not a number"
    value = Decimal(text)
    if not value.is_finite():
        return "not finite"
    return "negative" if value < 0 else _TOO_LONG
