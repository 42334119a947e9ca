"""Prove trades complete by time: compare what is stored with what REST shows, window by window.

For venues whose ids are not contiguous, so that a missing id cannot be noticed. A REST answer covers the time between
its oldest and its newest trade: earlier it may have been truncated, later it may be behind the stream. What it shows in
that window and is not stored is missing. A window in which nothing is missing is proven.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from pipeline.core.errors import Refused
from pipeline.core.settings import VenueSettings
from schemas.records import TradeRow
from venues.rest.page import Page

S_contra = TypeVar("S_contra", bound=VenueSettings, contravariant=True)

SECOND_US = 1_000_000
# REST shows a trade within this time, or as late as it was seen to. Matters only while nothing is traded: every later
# answer covers this time again, and revokes the proof if it shows more.
SHOWN_WITHIN_US = 15 * SECOND_US

Span = tuple[int, int]  # [from, to), venue time in µs


@dataclass(frozen=True)
class Recent:
    """The newest trades of a product. `at_us`: the venue's time of the answer; None if the answer has none."""

    page: Page
    at_us: int | None


class WindowSource(Protocol):
    """A venue's newest trades by REST. All methods block; all raise `Refused`, `Unavailable` or `Stopped`."""

    venue: str
    calls_per_s: float
    reaches_s: Sequence[int]
    """How far back it can be asked, in seconds, ascending."""

    def recent(self, product_id: str, reach_s: int) -> Recent:
        """Request the trades of the last `reach_s` seconds, one of `reaches_s`."""


class WindowRest(Protocol[S_contra]):
    """Create the venue's source. `attempts`: calls per request before it counts as unavailable."""

    def __call__(
        self, settings: S_contra, state_dir: Path, stop: threading.Event, *, attempts: int = 6
    ) -> WindowSource: ...


def newest(source: WindowSource, product_id: str) -> list[TradeRow]:
    """Return the trades within the shortest reach; if there are none, the newest within a longer one. Ascending by
    id."""
    for reach_s in source.reaches_s:
        rows = source.recent(product_id, reach_s).page.rows
        if rows:
            return rows if reach_s == source.reaches_s[0] else rows[-1:]
    return []


def newest_trade(source: WindowSource, product_id: str) -> int:
    """Return the newest trade's id. Raises `Refused` if there is none within the longest reach."""
    rows = newest(source, product_id)
    if not rows:
        raise Refused(f"{source.venue} shows no trade of {product_id} within {source.reaches_s[-1]} s")
    return rows[-1].trade_id


@dataclass(frozen=True)
class Compared:
    """The result of comparing one answer.

    `covered`: the window that the answer covers, proven unless something in it is missing; None if there is none.
    `missing`: rows that are not stored, ascending by id. `lost`: the seconds in which they lie.
    """

    covered: Span | None
    missing: list[TradeRow]
    lost: list[Span]


def lateness_us(recent: Recent, known_us: int, first_newer_us: int | None) -> int:
    """Return how late REST is known to be, given that it was `known_us` late before: at most the age of the newest
    trade it shows, at least that of the first stored trade that it lacks. `first_newer_us`: the time of the latter."""
    if recent.at_us is None or not recent.page.rows:
        return known_us
    at_most_us = max(0, recent.at_us - max(row.timestamp_us for row in recent.page.rows))
    at_least_us = 0 if first_newer_us is None else recent.at_us - first_newer_us
    return max(min(known_us, at_most_us), at_least_us)


def compare(
    recent: Recent,
    unknown: Collection[int],
    since_us: int,
    newest_stored_us: int | None,
    young_us: int,
    late_us: int = 0,
) -> Compared:
    """Compare an answer with the ledger.

    `unknown`: the ids of the answer that are not stored. `since_us`: start of the live stream; older trades were not
    requested. `newest_stored_us`: time of the newest stored trade. `young_us`: a trade younger than this may still be
    on its way, so its second is neither covered nor lost. `late_us`: how late REST was seen to be.
    """
    rows = recent.page.rows
    if not rows or recent.page.blurred or any(bad.trade_id in unknown for bad in recent.page.bad):
        # The time of a row that cannot be stored is never proven: it stays missing until no answer shows the row.
        return Compared(None, [], [])
    times = [row.timestamp_us for row in rows]
    # The answer may have been truncated within its oldest second, and REST gives whole seconds.
    start, end = min(times) // SECOND_US * SECOND_US + SECOND_US, max(times) // SECOND_US * SECOND_US
    if recent.at_us is not None:
        behind = newest_stored_us is not None and newest_stored_us >= end + SECOND_US
        if not behind:
            end = max(end, recent.at_us - max(SHOWN_WITHIN_US, late_us))
        fresh_us = recent.at_us - young_us
    else:
        fresh_us = end - young_us
    missing, lost = [], []
    for row in rows:
        if row.trade_id not in unknown or row.timestamp_us + SECOND_US <= since_us:
            continue
        second = row.timestamp_us // SECOND_US * SECOND_US
        if second > fresh_us:
            end = min(end, second)
        else:
            missing.append(row)
            lost.append((second, second + SECOND_US))
    return Compared((start, end) if start < end else None, missing, sorted(set(lost)))
