"""Rate limits per venue (or pair) and machine, shared by all processes.

A small file holds the time at which the next request may start. A caller reserves that time under the file's lock,
advances it by one interval, and waits outside the lock. So requests are evenly spaced without bursts, and a process
that dies wastes at most one interval. (pyrate-limiter's shared bucket needs an SQLite file and a file lock of its own
for the same, and counts windows, so two bursts can meet at their border.)
"""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

from pipeline.core import metrics
from pipeline.core.stopping import Stopped
from venues.rest.shared_numbers import SharedNumbers

# Network jitter can bring two requests closer together on their way to the venue: 10 % extra distance against that.
MARGIN = 1.1
# A venue is not asked again before it says, up to the longest ban in a venue's documents (Binance, status 418): a
# request during a ban prolongs it.
LONGEST_HOLD_S = 3 * 86_400.0
BELIEVABLE_S = LONGEST_HOLD_S + 900.0  # a time further away is damaged


class RateLimit:
    """At most `rate` requests per second under this name, across all processes that use the same folder."""

    def __init__(self, folder: Path, name: str, rate: float) -> None:
        self.name, self.interval_s = name, MARGIN / rate
        self._venue = name.split("-", 1)[0]
        self._shared = SharedNumbers(folder, f"rate-limit.{re.sub(r'[^a-zA-Z0-9_-]', '_', name)}", 1)

    def wait(self, stop: threading.Event) -> float:
        """Block until the next request may start; returns the seconds waited. Raises `Stopped`."""
        waited = max(0.0, self._reserve(0.0) - time.monotonic())
        if stop.wait(waited):
            raise Stopped
        metrics.REQUEST_WAIT.labels(self._venue).inc(waited)
        return waited

    def hold(self, seconds: float) -> None:
        """Hold back all requests for this time, because the venue asked for it (status 429)."""
        self._reserve(seconds)

    def _reserve(self, hold_s: float) -> float:
        """Reserve the next free time, or move it to `hold_s` from now."""
        with self._shared.locked() as kept:
            now = time.monotonic()
            free = kept[0] if kept else now
            if not now - BELIEVABLE_S <= free <= now + BELIEVABLE_S:
                free = now
            moment = max(now, free)
            kept[:] = [max(moment, now + hold_s) if hold_s else moment + self.interval_s]
            return moment
