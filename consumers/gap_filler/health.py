"""Health of the gap filler: what has been missing for how long, and what cannot be confirmed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isinf
from typing import Any

from consumers.gap_filler.gap_tracker import Key

# Unhealthy if the ledger could not be read for this long ...
LEDGER_WITHIN_S = 60.0
# ... or trades are missing for this long: most gaps are closed within seconds of being seen ...
OPEN_WITHIN_S = 45.0
# ... or a venue's newest trade could not be confirmed for this long.
CONFIRMED_WITHIN_S = 60.0
PARTS = ("ids", "windows")


@dataclass(frozen=True)
class _Poll:
    """The last poll of one part. Times are monotonic seconds."""

    at: float
    open_ids: dict[Key, int] = field(default_factory=dict)
    open_since: dict[Key, float] = field(default_factory=dict)
    unconfirmed: dict[Key, float] = field(default_factory=dict)


class GapHealth:
    """Healthy while the ledger can be read, nothing is missing for long, and the venues' newest trades are known.

    There are two parts, each polled by a thread of its own: venues that are proven by ids, and those by windows.
    """

    def __init__(self) -> None:
        self._polls: dict[str, _Poll] = {}

    def record_poll(self, part: str, open_ids: Mapping[Key, int], ages: Mapping[Key, float], now: float) -> None:
        """Record a poll of the ledger by one of `PARTS`: how many trades are missing per product, and the seconds since
        its newest trade was confirmed."""
        before = self._polls[part].open_since if part in self._polls else {}
        self._polls[part] = _Poll(
            now,
            dict(open_ids),
            {key: before.get(key, now) for key, size in open_ids.items() if size},
            {key: age for key, age in ages.items() if age > CONFIRMED_WITHIN_S},
        )

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Return (healthy, body) for `/health`."""
        looks = [self._polls[part] for part in PARTS if part in self._polls]
        if len(looks) < len(PARTS):
            return False, {"why": ["waiting for broker and database"]}
        now = time.monotonic()
        age_s = max(now - look.at for look in looks)
        why = [] if age_s <= LEDGER_WITHIN_S else [f"the ledger was last read {age_s:.0f} s ago"]
        gaps: dict[str, int] = {}
        for look in looks:
            for key, since in look.open_since.items():
                if now - since > OPEN_WITHIN_S:
                    why.append(f"{key[0]} {key[1]}: {look.open_ids[key]:,} trades missing for {now - since:.0f} s")
            for (venue, product), unknown_s in look.unconfirmed.items():
                how_long = "yet" if isinf(unknown_s) else f"for {unknown_s:.0f} s"
                why.append(f"{venue} {product}: the newest trade could not be confirmed {how_long}")
            gaps |= {f"{venue} {product}": size for (venue, product), size in look.open_ids.items() if size}
        return not why, {"open_ids": gaps, "ledger_read_age_s": round(age_s, 1), "why": why}
