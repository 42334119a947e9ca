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
        """Sign the stored claims that are ours, and forget ours once all their ids are accounted for.

        Looked up by ours, never listed: how many claims others have sent must not matter.
        """
        with self._lock:
            for key, mine in list(self._mine.items()):
                venue, product, reason = key
                ledger.sign(venue, product, mine, reason)
                missing = ledger.missing_ids(venue, product, mine[0][0], mine[-1][1])
                done = set(id_ranges.without(mine, missing))
                # A range stays whole until all of it is done: its claim may come as a whole.
                if left := [span for span in mine if span not in done]:
                    self._mine[key] = left
                else:
                    del self._mine[key]
