"""Which of two versions of an hour of quotes is kept: a total order, so that the order of arrival does not matter."""

from __future__ import annotations

from dataclasses import replace

from pipeline.core.times import HOUR_US
from pipeline.database.ledger import Hour

RANK = {"present": 3, "partial": 2, "confirmed_empty": 1, "closed": 1, "seen_empty": 0}
"""Rank of the ledger's states; the higher one is kept."""
# Vendors publish hours late: an empty answer about an hour younger than this proves nothing.
EMPTY_FINAL_AFTER_US = 24 * HOUR_US


def late_enough(hour_us: int, fetched_at_us: int) -> bool:
    """Whether an empty answer of this time says anything about the hour."""
    return hour_us + HOUR_US + EMPTY_FINAL_AFTER_US <= fetched_at_us


def wins(new: Hour, old: Hour) -> bool:
    """Return whether `new` replaces `old`.

    Quotes win over an empty hour, a finished hour over a running one, a later fetch over an earlier one. The two feeds
    agree in time, bid and ask, but the vendor rounds bi5's sizes, so for equal content JSON's is kept.
    """
    if RANK[new.state] != RANK[old.state]:
        return RANK[new.state] > RANK[old.state]
    if new.state == "seen_empty":  # the first look that says anything counts: the second must be some time after it
        return late_enough(new.hour_us, new.fetched_at_us) and not late_enough(old.hour_us, old.fetched_at_us)
    if same_content(new, old):
        return new.feed == "json" and old.feed != "json"
    return (new.fetched_at_us, new.feed == "json", new.checksum) > (old.fetched_at_us, old.feed == "json", old.checksum)


def same_content(new: Hour, old: Hour) -> bool:
    """Return whether both versions have the same state and the same times, bids and asks."""
    return new.state == old.state and new.checksum == old.checksum and new.ticks == old.ticks


def entry(new: Hour, old: Hour | None, *, refused: bool) -> Hour | None:
    """Return the ledger's entry after `new`, or None if it stays unchanged. `refused`: whether rows were refused."""
    if old is None:
        return replace(new, revision=0)
    if same_content(new, old) and new.state == "seen_empty":
        return replace(new, revision=old.revision) if wins(new, old) else None
    if same_content(new, old):
        # Same content: record the later fetch, or an older correction could replace it.
        fetched_at_us = max(new.fetched_at_us, old.fetched_at_us)
        feed = "json" if "json" in (new.feed, old.feed) else old.feed
        if (fetched_at_us, feed) == (old.fetched_at_us, old.feed):
            return None
        if refused and new.state == "partial":
            return None  # the first answer counts, as for empty hours
        return replace(new, fetched_at_us=fetched_at_us, feed=feed, revision=old.revision)
    if not wins(new, old):
        return None
    return replace(new, revision=old.revision + (old.state == "present"))
