"""A page of REST trades, separated into rows that can be stored and rows that cannot.

A malformed row must not invalidate its page, and a row that cannot be stored is not a missing trade: its id is kept, so
that it is not taken for absent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.errors import BadData, WrongAnswer
from pipeline.core.products import MAX_ID
from pipeline.core.times import END_US, OLDEST_US
from schemas.records import TradeRow
from venues.events import READING, parse_json

_STORABLE = re.compile(r"\d{1,16}(\.\d{1,18})?", re.ASCII)


@dataclass(frozen=True)
class BadRow:
    """A row with a valid id that cannot be stored. `payload` is the row as JSON, cut to what a dead letter may hold."""

    trade_id: int
    reason: str
    detail: str
    payload: bytes


@dataclass(frozen=True)
class Page:
    """Rows ascending by id. `blurred`: a row had no valid id, so no id can be called absent with certainty."""

    rows: list[TradeRow]
    bad: list[BadRow] = field(default_factory=list)
    blurred: bool = False

    @property
    def ids(self) -> list[int]:
        """All ids on the page, ascending, including those of bad rows."""
        return sorted({*(row.trade_id for row in self.rows), *(one.trade_id for one in self.bad)})


def elements_of(body: bytes, what: str) -> list[Any]:
    """Parse an answer that is a list. Raises `WrongAnswer`."""
    try:
        elements = parse_json(body)
    except BadData as error:
        raise WrongAnswer(f"{what}: {error}") from None
    if not isinstance(elements, list):
        raise WrongAnswer(f"{what}: {str(elements)[:200]}")
    return elements


def read_page(elements: Iterable[Any], read: Callable[[Any], TradeRow], id_of: Callable[[Any], int]) -> Page:
    """Parse each element on its own with the venue's functions `read` and `id_of`, which may raise on bad input.

    Raises `WrongAnswer` if no element has the expected format.
    """
    rows: list[TradeRow] = []
    bad: list[BadRow] = []
    blurred = False
    for element in elements:
        try:
            row = read(element)
            problem = problem_of(row)
            if problem is None:
                rows.append(row)
                continue
            reason, detail = problem
        except READING as error:
            reason = error.reason if isinstance(error, BadData) else "shape"
            detail = f"{type(error).__name__}: {error}"[:500]
        try:
            number = id_of(element)
        except READING:
            number = -1
        if 0 <= number < MAX_ID:
            bad.append(BadRow(number, reason, detail, json.dumps(element, default=str).encode()[:100_000]))
        else:
            blurred = True
    if not rows and (bad or blurred) and all(one.reason == "shape" for one in bad):
        # Not a few malformed rows but another format: do not trust its ids.
        raise WrongAnswer(f"no row of the page has the expected format: {bad[0].detail if bad else 'no trade id'}")
    rows.sort(key=lambda row: row.trade_id)
    return Page(rows, bad, blurred)


def problem_of(row: TradeRow) -> tuple[str, str] | None:
    """Return why the writer would refuse this trade, as (reason, detail); None if it can be stored."""
    if not 0 <= row.trade_id < MAX_ID:
        return "trade_id", f"trade id {row.trade_id} is out of range"
    for name, text in (("price", row.price), ("quantity", row.quantity)):
        if not _STORABLE.fullmatch(text):
            return (
                name,
                f"{name} {text[:40]!r} is not a positive decimal of up to 16 digits before and 18 after the point",
            )
    if not row.price.strip("0."):
        return "price", "the price is zero"
    if not OLDEST_US <= row.timestamp_us < END_US:
        return "time", f"timestamp_us {row.timestamp_us} is not between 2000 and 2100"
    return None
