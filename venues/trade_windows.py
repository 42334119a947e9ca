"""Trades that are proven by time: the stream is compared with what REST shows, window by window.

For venues whose ids do not follow each other, so that no id is seen to be missing. An answer of REST covers the time
between its oldest and its newest trade: it may have been cut off before the one, and may be behind after the other.
What it shows there and nobody has stored is missing. Where nothing is missing, the time is proven.
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
# REST shows a trade within this time, or as late as it was seen to. It decides only where nothing was traded since:
# each later answer reaches back over it again, and takes the proof back where it shows more.
SHOWN_WITHIN_US = 15 * SECOND_US

Span = tuple[int, int]  # [from, to), venue time in µs


@dataclass(frozen=True)
class Recent:
    """The newest trades of a product. `at_us`: the venue's clock when it answered; None where it did not say."""

    page: Page
    at_us: int | None


class WindowSource(Protocol):
    """A venue's newest trades by REST. All methods block; all raise `Refused`, `Unavailable` or `Stopped`."""

    venue: str
    calls_per_s: float
    reaches_s: Sequence[int]
    """How far back it can be asked, ascending."""

    def recent(self, product_id: str, reach_s: int) -> Recent:
        """The trades of the last `reach_s` seconds, one of `reaches_s`."""


class WindowRest(Protocol[S_contra]):
    """Create the venue's source. `attempts`: calls per request before it counts as unavailable."""

    def __call__(
        self, settings: S_contra, state_dir: Path, stop: threading.Event, *, attempts: int = 6
    ) -> WindowSource: ...


def newest(source: WindowSource, product_id: str) -> list[TradeRow]:
    """The trades within the shortest reach; where there are none, the newest one within a longer. Ascending by id."""
    for reach_s in source.reaches_s:
        rows = source.recent(product_id, reach_s).page.rows
        if rows:
            return rows if reach_s == source.reaches_s[0] else rows[-1:]
    return []


def newest_trade(source: WindowSource, product_id: str) -> int:
    """The newest trade's id. Raises `Refused` if there was none as far back as the venue can be asked."""
    rows = newest(source, product_id)
    if not rows:
        raise Refused(f"{source.venue} shows no trade of {product_id} within {source.reaches_s[-1]} s")
    return rows[-1].trade_id


@dataclass(frozen=True)
class Compared:
    """What one answer says. `missing`: rows that are not stored, ascending by id; `lost`: the seconds they lie in."""

    covered: Span | None
    missing: list[TradeRow]
    lost: list[Span]


def lateness_us(recent: Recent, known_us: int, first_newer_us: int | None) -> int:
    """How late REST is, as far as it can be seen, having been `known_us` late: not later than it shows the newest of
    its trades, and as late as it lacks one that is stored. `first_newer_us`: the time of the first such trade."""
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

    `since_us`: what is older was not asked for. `unknown`: the ids of the answer that are not stored.
    `newest_stored_us`: time of the newest stored trade. `young_us`: a trade this young may still be on its way, so that
    nothing is said about its time yet. `late_us`: how late REST was seen to be.
    """
    rows = recent.page.rows
    if not rows or recent.page.blurred or any(bad.trade_id in unknown for bad in recent.page.bad):
        # What cannot be stored is never proven: its time stays missing until the answer no longer shows it.
        return Compared(None, [], [])
    times = [row.timestamp_us for row in rows]
    # The answer may have been cut off inside its oldest second, and REST gives whole seconds.
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
