"""Explanations of missing ids: the gap filler signs its own findings in the ledger once their claims are stored.

Claims of others explain nothing: their ids stay missing, so the gap filler looks for them, and its result decides.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from consumers.gap_filler.gap_tracker import Key
from pipeline.database.ledger import IdGap, Ledger
from venues import id_ranges
from venues.id_ranges import IdRange


class Explanations:
    """Our findings that await signing. Thread-safe. `tell(gap, reason)` is called for each new one. Kept in memory
    only: after a restart the ids are checked again."""

    def __init__(self, tell: Callable[[IdGap, str], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._mine: dict[tuple[str, str, str], list[IdRange]] = {}

    def add(self, key: Key, found: list[IdRange], reason: str) -> None:
        """Add ids that were looked for and whose claim is published."""
        with self._lock:
            self._mine[(*key, reason)] = id_ranges.merged([*self._mine.get((*key, reason), []), *found])
        for first, last in found:
            self._tell(IdGap(*key, first, last, None, None), reason)

    def sign(self, ledger: Ledger) -> None:
        """Sign the stored claims that are ours."""
        with self._lock:
            for claim in ledger.claims():
                mine = self._mine.get((claim.venue, claim.product_id, claim.reason), [])
                span = (claim.first_id, claim.last_id)
                if not id_ranges.without([span], mine):
                    ledger.sign(claim.venue, claim.product_id, [span], claim.reason)
