"""Health of the gap filler: what has been missing for how long, and what cannot be confirmed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from math import isinf
from typing import Any

from consumers.gap_filler.gap_tracker import Key

# Unhealthy if the ledger could not be read for this long ...
LEDGER_WITHIN_S = 60.0
# ... or trades are missing for this long: most gaps are closed within seconds of being seen ...
OPEN_WITHIN_S = 45.0
# ... or a venue's newest trade could not be confirmed for this long.
CONFIRMED_WITHIN_S = 60.0


class GapHealth:
    """Healthy while the ledger can be read, nothing is missing for long, and the venues' newest trades are known."""

    def __init__(self) -> None:
        self.open_ids: dict[Key, int] = {}
        self._open_since: dict[Key, float] = {}
        self._unconfirmed: dict[Key, float] = {}
        self._looked: float | None = None

    def looked(self, open_ids: Mapping[Key, int], ages: Mapping[Key, float], now: float) -> None:
        """Record a poll of the ledger: missing ids, and seconds since the venue's newest trade was confirmed."""
        self._open_since = {key: self._open_since.get(key, now) for key, size in open_ids.items() if size}
        self._unconfirmed = {key: age for key, age in ages.items() if age > CONFIRMED_WITHIN_S}
        self.open_ids, self._looked = dict(open_ids), now

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Return (healthy, body) for `/health`."""
        if self._looked is None:
            return False, {"why": ["waiting for broker and database"]}
        now = time.monotonic()
        age_s = now - self._looked
        why = [] if age_s <= LEDGER_WITHIN_S else [f"the ledger was last read {age_s:.0f} s ago"]
        for key, since in self._open_since.items():
            if now - since > OPEN_WITHIN_S:
                why.append(f"{key[0]} {key[1]}: {self.open_ids[key]:,} trades missing for {now - since:.0f} s")
        for (venue, product), unknown_s in self._unconfirmed.items():
            how_long = "yet" if isinf(unknown_s) else f"for {unknown_s:.0f} s"
            why.append(f"{venue} {product}: the newest trade could not be confirmed {how_long}")
        gaps = {f"{venue} {product}": size for (venue, product), size in self.open_ids.items() if size}
        return not why, {"open_ids": gaps, "ledger_read_age_s": round(age_s, 1), "why": why}
