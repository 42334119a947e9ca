"""Explanations of missing ids: the gap filler signs its own findings in the ledger once their claims are stored.

Claims of others explain nothing: their ids stay missing, so the gap filler looks for them itself, and its result
counts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from consumers.gap_filler.gap_tracker import Key
from pipeline.database.ledger import IdGap, Ledger
from venues import id_ranges
from venues.id_ranges import IdRange


class Explanations:
    """Our findings that are to be signed. Thread-safe. `on_found(gap, reason)` is called for each new one.

    Kept in memory only: after a restart the ids are looked for again.
    """

    def __init__(self, on_found: Callable[[IdGap, str], None]) -> None:
        self._on_found = on_found
        self._lock = threading.Lock()
        self._mine: dict[tuple[str, str, str], list[IdRange]] = {}

    def add(self, key: Key, found: list[IdRange], reason: str) -> None:
        """Add ids that were looked for and whose claims are published."""
        with self._lock:
            self._mine[(*key, reason)] = id_ranges.merged([*self._mine.get((*key, reason), []), *found])
        for first, last in found:
            self._on_found(IdGap(*key, first, last, None, None), reason)

    def sign(self, ledger: Ledger) -> None:
        """Sign those of our claims that are stored, and forget the findings whose ids are all accounted for.

        Our claims are looked up one by one: listing all claims would cost time for every claim that others send.
        """
        with self._lock:
            for key, mine in list(self._mine.items()):
                venue, product, reason = key
                ledger.sign(venue, product, mine, reason)
                missing = ledger.missing_ids(venue, product, mine[0][0], mine[-1][1])
                done = set(id_ranges.without(mine, missing))
                # A range stays whole until all of it is done: its claim may be stored as a whole.
                if left := [span for span in mine if span not in done]:
                    self._mine[key] = left
                else:
                    del self._mine[key]
