"""Track gaps: when each was first seen, what was published for it, when to retry."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace

from pipeline.database.ledger import IdGap
from venues import id_ranges
from venues.id_ranges import IdRange

Key = tuple[str, str]  # venue, product
# Published trades are stored within a second; after this long they count as lost and are fetched again.
STORED_WITHIN_S = 60.0


@dataclass
class Change:
    """Changes since the previous update: gaps now old enough to be reported, and ids that are now stored."""

    opened: list[IdGap] = field(default_factory=list)
    repaired: list[IdGap] = field(default_factory=list)


@dataclass
class _Tracked:
    """A gap, since when it has been known, and whether it was reported as opened."""

    gap: IdGap
    since: float
    reported: bool = False


class GapTracker:
    """The known gaps. Thread-safe. Times are monotonic seconds.

    `reorder_s`: a younger gap may still close by itself. `confirm_s`: pause between two looks at an id.
    """

    def __init__(self, reorder_s: float, confirm_s: float) -> None:
        self._reorder_s, self._confirm_s = reorder_s, confirm_s
        self._lock = threading.Lock()
        self._known: dict[Key, list[_Tracked]] = {}
        self._published: defaultdict[Key, list[tuple[IdRange, float]]] = defaultdict(list)
        self._waiting: defaultdict[Key, list[tuple[IdRange, float]]] = defaultdict(list)
        self._explained: defaultdict[Key, list[IdRange]] = defaultdict(list)

    def update(self, gaps: list[IdGap], now: float) -> Change:
        """Replace the gaps by those that the ledger shows now, of all products; returns what has changed."""
        with self._lock:
            change = Change()
            current: defaultdict[Key, list[IdGap]] = defaultdict(list)
            for gap in gaps:
                current[gap.venue, gap.product_id].append(gap)
            for key in {*self._known, *current}:
                self._update(key, current[key], now, change)
            return change

    def _update(self, key: Key, gaps: list[IdGap], now: float, change: Change) -> None:
        # Previous and current ranges are compared only with their neighbours: there may be thousands of each.
        before = {(known.gap.first_id, known.gap.last_id): known for known in self._known.get(key, [])}
        spans = sorted(before)
        here = id_ranges.merged((gap.first_id, gap.last_id) for gap in gaps)
        explained = self._explained[key] = id_ranges.merged(self._explained[key])
        for known in before.values():
            if known.reported:
                for first, last in _rest(known.gap, here, explained):
                    change.repaired.append(replace(known.gap, first_id=first, last_id=last))
        after = []
        for gap in gaps:
            old = [before[span] for span in id_ranges.near(spans, gap.first_id, gap.last_id)]
            known = _Tracked(gap, min((k.since for k in old), default=now), any(k.reported for k in old))
            if not known.reported and now - known.since >= self._reorder_s:
                known.reported = True
                change.opened.append(gap)
            after.append(known)
        if after:
            self._known[key] = after
        else:  # nothing is missing: forget the product
            self._known.pop(key, None)
            self._published.pop(key, None)
            self._waiting.pop(key, None)
            self._explained.pop(key, None)

    def due(self, now: float) -> dict[Key, list[IdGap]]:
        """Return the gaps to repair now: old enough and neither published nor postponed, ascending."""
        with self._lock:
            made: dict[Key, list[IdGap]] = {}
            for key, known in self._known.items():
                self._published[key] = [(s, at) for s, at in self._published[key] if now - at < STORED_WITHIN_S]
                self._waiting[key] = [(s, until) for s, until in self._waiting[key] if until > now]
                away = id_ranges.merged(span for span, _ in (*self._published[key], *self._waiting[key]))
                parts = [
                    replace(
                        one.gap,
                        first_id=first,
                        last_id=last,
                        before_us=one.gap.before_us if first == one.gap.first_id else None,
                        after_us=one.gap.after_us if last == one.gap.last_id else None,
                    )
                    for one in known
                    if now - one.since >= self._reorder_s
                    for first, last in _rest(one.gap, away)
                ]
                if parts:
                    made[key] = sorted(parts, key=lambda gap: gap.first_id)
            return made

    def published(self, key: Key, what: list[IdRange], now: float) -> None:
        """Record ids that are published and on their way into the ledger."""
        with self._lock:
            self._published[key] += [(span, now) for span in what]

    def postpone(self, key: Key, what: list[IdRange], seconds: float) -> None:
        """Postpone requests for these ids."""
        with self._lock:
            until = time.monotonic() + seconds
            self._waiting[key] += [(span, until) for span in what]

    def unrepairable(self, gap: IdGap) -> None:
        """Record ids that will disappear from the ledger's gaps because they are explained, not repaired."""
        with self._lock:
            self._explained[gap.venue, gap.product_id].append((gap.first_id, gap.last_id))


def _rest(gap: IdGap, *taken: list[IdRange]) -> list[IdRange]:
    """Return the ranges of a gap that are in none of these ascending and disjoint ones."""
    span = (gap.first_id, gap.last_id)
    return id_ranges.without([span], (one for spans in taken for one in id_ranges.near(spans, *span)))
