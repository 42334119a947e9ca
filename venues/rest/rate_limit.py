"""How often a venue may be asked: one limit per venue (or pair) and machine, shared by all processes.

A small file holds the moment from which the next request may go. Who wants to ask takes the next free moment under its
lock, moves it on by one interval, and waits for its moment outside the lock. So requests are spread evenly without
bursts, and a process that dies costs at most one interval.
(pyrate-limiter's shared bucket needs an SQLite file and its own file lock for the same, and counts windows, which lets
two bursts meet at their border.)
"""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

from pipeline.core import metrics
from pipeline.core.stopping import Stopped
from venues.rest.shared_numbers import SharedNumbers

# On its way to the venue a request may be overtaken in time by the next one: 10 % of distance against that.
MARGIN = 1.1
# A moment further ahead than this is from before a reboot (the clock counts from there), or damaged.
BELIEVABLE_S = 900.0


class RateLimit:
    """At most `rate` requests a second under this name, by all processes that use the same folder."""

    def __init__(self, folder: Path, name: str, rate: float) -> None:
        self.name, self.interval_s = name, MARGIN / rate
        self._venue = name.split("-", 1)[0]
        self._shared = SharedNumbers(folder, f"rate-limit.{re.sub(r'[^a-zA-Z0-9_-]', '_', name)}", 1)

    def wait(self, stop: threading.Event) -> float:
        """Wait for a turn; returns how long it took. Raises `Stopped`."""
        waited = max(0.0, self._reserve(0.0) - time.monotonic())
        if stop.wait(waited):
            raise Stopped
        metrics.REQUEST_WAIT.labels(self._venue).inc(waited)
        return waited

    def hold(self, seconds: float) -> None:
        """The venue asks for patience: nobody asks before this time has passed."""
        self._reserve(seconds)

    def _reserve(self, hold_s: float) -> float:
        """Take the next free moment, or move it to `hold_s` from now."""
        with self._shared.locked() as kept:
            now = time.monotonic()
            free = kept[0] if kept else now
            if not now - BELIEVABLE_S <= free <= now + BELIEVABLE_S:
                free = now
            moment = max(now, free)
            kept[:] = [max(moment, now + hold_s) if hold_s else moment + self.interval_s]
            return moment
