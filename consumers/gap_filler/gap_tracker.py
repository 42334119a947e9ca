"""Tracks gaps: when each was first seen, what was published for it, when to retry."""

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
    """Changes of the gaps since the last poll."""

    opened: list[IdGap] = field(default_factory=list)
    repaired: list[IdGap] = field(default_factory=list)


@dataclass
class _Known:
    gap: IdGap
    since: float
    told: bool = False


class GapBook:
    """The known gaps. Thread-safe. Times are monotonic seconds."""

    def __init__(self, reorder_s: float, confirm_s: float) -> None:
        self._reorder_s, self._confirm_s = reorder_s, confirm_s
        self._lock = threading.Lock()
        self._known: dict[Key, list[_Known]] = {}
        self._published: defaultdict[Key, list[tuple[IdRange, float]]] = defaultdict(list)
        self._waiting: defaultdict[Key, list[tuple[IdRange, float]]] = defaultdict(list)
        self._explained: defaultdict[Key, list[IdRange]] = defaultdict(list)

    def see(self, gaps: list[IdGap], now: float) -> Change:
        """Update the gaps with those that the ledger shows now (of all products)."""
        with self._lock:
            change = Change()
            current: defaultdict[Key, list[IdGap]] = defaultdict(list)
            for gap in gaps:
                current[gap.venue, gap.product_id].append(gap)
            for key in {*self._known, *current}:
                self._see(key, current[key], now, change)
            return change

    def _see(self, key: Key, gaps: list[IdGap], now: float, change: Change) -> None:
        before = self._known.get(key, [])
        here = [(gap.first_id, gap.last_id) for gap in gaps]
        for known in before:
            span = (known.gap.first_id, known.gap.last_id)
            gone = id_ranges.without([span], here)
            if known.told:
                for first, last in id_ranges.without(gone, self._explained[key]):
                    change.repaired.append(replace(known.gap, first_id=first, last_id=last))
        after = []
        for gap in gaps:
            span = (gap.first_id, gap.last_id)
            old = [known for known in before if id_ranges.common([span], [(known.gap.first_id, known.gap.last_id)])]
            known = _Known(gap, min((k.since for k in old), default=now), any(k.told for k in old))
            if not known.told and now - known.since >= self._reorder_s:
                known.told = True
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
                away = [span for span, _ in (*self._published[key], *self._waiting[key])]
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
                    for first, last in id_ranges.without([(one.gap.first_id, one.gap.last_id)], away)
                ]
                if parts:
                    made[key] = sorted(parts, key=lambda gap: gap.first_id)
            return made

    def published(self, key: Key, what: list[IdRange], now: float) -> None:
        """Record ids that are published and on their way into the ledger."""
        with self._lock:
            self._published[key] += [(span, now) for span in what]

    def put_off(self, key: Key, what: list[IdRange], seconds: float) -> None:
        """Postpone requests for these ids."""
        with self._lock:
            until = time.monotonic() + seconds
            self._waiting[key] += [(span, until) for span in what]

    def unrepairable(self, gap: IdGap) -> None:
        """Record ids that will disappear from the ledger's gaps because they are explained, not repaired."""
        with self._lock:
            key = (gap.venue, gap.product_id)
            self._explained[key] = id_ranges.merged([*self._explained[key], (gap.first_id, gap.last_id)])
