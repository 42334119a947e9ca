"""Column checks that every writer makes, and decimals taken apart exactly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from consumers.fields import ASSET
from consumers.pgcopy import FRACTION_DIGITS, Split
from pipeline.broker.topics import venue_and_product
from pipeline.core.errors import BadData, WrongUse
from pipeline.core.products import canonical_product
from pipeline.core.times import OLDEST_US

_PLAIN = re.compile(r"(\d{1,16})(?:\.(\d{1,18}))?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?([eE][+-]?\d{1,4})?|NaN|Infinity)", re.ASCII)  # Decimal itself takes more
_ZEROS = "0" * FRACTION_DIGITS
_TOO_LONG = "more digits than 16 before and 18 behind the point"
_LONGEST = 60  # characters; what is longer has more digits than can be stored, and is not even looked at


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


class Decimals:
    """Decimal strings as columns: whole part, fraction with 18 decimals, number of decimals written.

    `problem[i]` says what is wrong with value i. `ok` are finite, not negative and fit 16 + 18 digits.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.problem: dict[int, str] = {}
        whole, fraction, decimals = [], [], []
        match = _PLAIN.fullmatch
        for i, text in enumerate(texts):
            found = match(text)
            if found is None:
                found = match(self._plain(i, text))
            a, b = found.groups("") if found else ("0", "")
            whole.append(int(a))
            fraction.append(int((b + _ZEROS)[:FRACTION_DIGITS]) if b else 0)
            decimals.append(len(b))
        self.whole = np.array(whole, dtype=np.int64)
        self.fraction = np.array(fraction, dtype=np.int64)
        self.decimals = np.array(decimals, dtype=np.int64)

    def _plain(self, i: int, text: str) -> str:
        """Other notations (`1E-7`) in plain digits; records what cannot be stored."""
        if len(text) > _LONGEST:
            self.problem[i] = f"{len(text):,} characters"
            return "0"
        if not _NUMBER.fullmatch(text):
            self.problem[i] = "not a number"
            return "0"
        value = Decimal(text)
        if not value.is_finite():
            self.problem[i] = "not finite"
        elif value < 0:
            self.problem[i] = "negative"
        elif value and -FRACTION_DIGITS - _LONGEST <= value.adjusted() <= _LONGEST:  # not 10,000 zeros of 1e9999
            plain = format(value, "f")
            if _PLAIN.fullmatch(plain):
                return plain
            self.problem[i] = _TOO_LONG
        elif value:
            self.problem[i] = _TOO_LONG
        return "0"

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
