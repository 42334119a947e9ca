"""Valid values of every field of every message: one table for all schemas.

A schema only defines a field's type; a valid message may still contain a time in the year 200,000 or a name with a NUL.
Everything that reaches the database has passed a rule of this table, or becomes a dead letter. Large numbers of rows
are checked by column (`Whole.good`, `consumers.validation.Decimals`), everything else by `check`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from pipeline.core.errors import BadData
from pipeline.core.products import MAX_ID, AssetClass
from pipeline.core.runtime import now_us
from pipeline.core.times import END_US, OLDEST_US

# Live data may be this far ahead of our clock, which may be the wrong one. Further ahead it is refused for now and its
# id stays missing: a judgement by our clock is never recorded as a property of the data.
AHEAD_US = 86_400_000_000
LONGEST = 100  # characters of a name
_BY_REST = ("history", "repair")  # origins of rows that were requested by REST


@dataclass(frozen=True, slots=True)
class Whole:
    """An integer in `low..high` (inclusive)."""

    reason: str
    low: int
    high: int
    optional: bool = False

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with the value, or None."""
        if (value is None and self.optional) or (isinstance(value, int) and self.low <= value <= self.high):
            return None
        return f"{value!r} is not in {self.low}..{self.high}"

    def good(self, column: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Apply the rule to each number of a column."""
        ok: npt.NDArray[np.bool_] = (column >= self.low) & (column <= self.high)
        return ok


@dataclass(frozen=True, slots=True)
class Text:
    """Printable text (no NUL, unpaired surrogate or escape code) of limited length."""

    reason: str
    optional: bool = False
    longest: int = LONGEST

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with the value, or None."""
        if value is None and self.optional:
            return None
        if isinstance(value, str) and 0 < len(value) <= self.longest and value.isprintable():
            return None
        return f"{value!r:.{LONGEST}} is not printable text of 1 to {self.longest} characters"


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of several words."""

    reason: str
    words: tuple[str, ...]

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with the value, or None."""
        return None if value in self.words else f"{value!r:.{LONGEST}} is not one of {', '.join(self.words)}"


Rule = Whole | Text | OneOf
TIME = Whole("time", OLDEST_US, END_US - 1)
ID = Whole("trade_id", 0, MAX_ID - 1)
SCALE = Whole("scale", 0, 12)
SEQ = Whole("seq", 0, (1 << 31) - 1)
GRANULARITY = Whole("granularity", 1, 31 * 86_400)  # a month at most
ASSET = OneOf("asset_class", get_args(AssetClass))
# Feed of an hour; `calendar`: no request was made, the market was closed.
FEED = OneOf("feed", ("json", "bi5", "folder", "calendar"))
# Reasons in a finding why ids are missing for good.
HOLE = OneOf("hole", ("venue_has_none", "too_old", "rejected", "unreachable"))

# Fields without a rule here are checked elsewhere: venue and product by `topics.check_address`, rows by column.
# Fields that are not stored (a ticker's statistics) have none.
RULES: dict[str, dict[str, Rule]] = {
    "trades": {"received_at_us": TIME},
    "hole": {"first_id": ID, "last_id": ID, "reason": HOLE, "confirmed_at_us": TIME},
    "ticker": {"received_at_us": TIME},
    "quotes": {
        "received_at_us": TIME,
        "hour_start_us": TIME,
        "fetched_at_us": TIME,
        "feed": FEED,
        "price_scale": SCALE,
        "size_scale": SCALE,
    },
    "candles": {"received_at_us": TIME, "as_of_us": TIME, "granularity_s": GRANULARITY},
    "statement": {  # the fields of a candles message besides its candles
        "state": Text("state", optional=True),
        "covered_from_us": Whole("time", OLDEST_US, END_US - 1, optional=True),
        "covered_to_us": Whole("time", OLDEST_US, END_US - 1, optional=True),
    },
    "quorum": {"required": Whole("quorum", 1, 63), "as_of_us": TIME},
}
EXCHANGE = Text("quorum")


def check(kind: str, record: Struct) -> None:
    """Raise `BadData` for the first field of `record` that breaks its rule."""
    for field, rule in RULES[kind].items():
        problem = rule.problem(getattr(record, field))
        if problem is not None:
            raise BadData(rule.reason, f"{field}: {problem}")


def check_ahead(field: str, at_us: int) -> None:
    """Raise `BadData` for a time more than a day ahead of our clock."""
    if at_us > now_us() + AHEAD_US:
        raise BadData("time", f"{field}: {at_us} is more than a day ahead of our clock")


def latest_us(origin: str) -> int:
    """Return the latest time at which a row of this origin is stored; rows from REST are taken as the venue gives
    them."""
    return END_US - 1 if origin in _BY_REST else now_us() + AHEAD_US
