"""The venues' published limits, enforced and counted."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any


class TokenBucket:
    """`burst` calls at once, `rate` a second in the long run; a refused call costs `penalty` seconds more."""

    def __init__(self, rate: float, burst: float, penalty: float = 0.0) -> None:
        self.rate, self.burst, self.penalty = rate, burst, penalty
        self._tokens, self._at = burst, time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return True
        self._tokens = max(self._tokens - self.penalty * self.rate, -self.penalty * self.rate)
        return False


@dataclass
class Endpoint:
    """Requests to one endpoint."""

    requests: int = 0
    refused: int = 0
    violations: int = 0
    peak_per_s: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    _recent: deque[float] = field(default_factory=deque)

    def count(self) -> None:
        now = time.monotonic()
        self.requests += 1
        self._recent.append(now)
        while self._recent[0] <= now - 1.0:
            self._recent.popleft()
        self.peak_per_s = max(self.peak_per_s, len(self._recent))

    def as_json(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if not key.startswith("_")}


class Stats:
    """Counts per venue and endpoint since the start or the last reset."""

    def __init__(self) -> None:
        self._endpoints: dict[str, dict[str, Endpoint]] = {}
        self.frames: dict[str, int] = {}

    def endpoint(self, venue: str, name: str) -> Endpoint:
        return self._endpoints.setdefault(venue, {}).setdefault(name, Endpoint())

    def reset(self) -> None:
        self._endpoints.clear()
        self.frames.clear()

    def as_json(self) -> dict[str, Any]:
        venues = {v: {n: e.as_json() for n, e in sorted(names.items())} for v, names in sorted(self._endpoints.items())}
        totals = {
            v: {key: sum(e[key] for e in names.values()) for key in ("requests", "refused", "violations")}
            for v, names in venues.items()
        }
        return {"venues": venues, "totals": totals, "frames": dict(self.frames)}
