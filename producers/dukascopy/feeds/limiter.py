"""Adaptive rate limit, shared by all processes of the machine.

Dukascopy publishes no limit, and its reaction to too many requests varies (503, a silent delay, a web page). So the
rate increases by a constant with each good answer and decreases by a factor with each refusal (AIMD). Near the last
refused rate it increases slowly: a refusal then occurs once in some 70 requests instead of once in ten.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from pipeline.core import metrics
from pipeline.core.stopping import Stopped
from venues.rest.shared_numbers import SharedNumbers

LEAST_RATE = 0.05
FAST = 0.05  # increase in requests per second with each good answer: from 1 to 10 in three quarters of a minute
NEAR = 0.85  # share of the refused rate above which ...
SLOW = 0.002  # ... the increase is only this share of it
CUT = 0.7
LONGEST_PAUSE_S = 300.0
# A time further ahead than this was written before a reboot (the clock counts from there), or is damaged.
_BELIEVABLE_S = 1200.0


@dataclass
class _State:
    free: float = 0.0  # when the next request may start
    held: float = 0.0  # no request before this time
    rate: float = 0.0  # none yet
    ceiling: float = 0.0  # the last refused rate; 0: none yet
    cut_at: float = 0.0


class AdaptiveLimit:
    """One rate, stored under `name` in `folder`. Thread-safe. Times are CLOCK_MONOTONIC, shared by all processes."""

    def __init__(self, folder: Path, name: str, max_rate: float, pause_s: float, *, start_rate: float = 1.0) -> None:
        self.name, self._start_rate, self._max_rate, self._pause_s = name, start_rate, max_rate, pause_s
        self._shared = SharedNumbers(folder, f"adaptive-limit.{name}", len(fields(_State)))
        self._failures = 0

    @property
    def rate(self) -> float:
        with self._locked() as state:
            return state.rate

    def wait(self, stop: threading.Event) -> float:
        """Block until the next request may start; returns its time, for `failed`. Raises `Stopped`."""
        while True:
            with self._locked() as state:
                now = time.monotonic()
                moment = max(now, state.free, state.held)
                state.free = moment + 1 / state.rate
            if stop.wait(moment - now):
                raise Stopped
            metrics.REQUEST_WAIT.labels("dukascopy").inc(moment - now)
            with self._locked() as state:
                if state.held <= time.monotonic():  # otherwise a request was refused meanwhile: wait again
                    return time.monotonic()

    def succeeded(self) -> None:
        with self._locked() as state:
            near = state.ceiling and state.rate >= NEAR * state.ceiling
            state.rate = min(self._max_rate, state.rate + (SLOW * state.ceiling if near else FAST))
            if state.ceiling and state.rate > 1.2 * state.ceiling:
                state.ceiling = 0.0  # the vendor allows more than it did
            self._failures = 0

    def failed(self, asked_at: float, retry_after_s: float | None = None) -> float:
        """Record a refusal or missing answer; returns the pause in seconds. Requests started before the last decrease
        do not decrease the rate again."""
        with self._locked() as state:
            now = time.monotonic()
            if asked_at >= state.cut_at:
                if not self._failures:  # otherwise it is down, not throttling: longer pauses, same rate
                    state.ceiling = state.rate
                    state.rate = max(LEAST_RATE, state.rate * CUT)
                state.cut_at = now
                self._failures += 1
            pause = self._pause_s * 2 ** min(10, max(0, self._failures - 1))
            pause = min(LONGEST_PAUSE_S, max(pause, retry_after_s or 0.0))
            state.held = max(state.held, now + pause)
            state.free = max(now, min(state.free, state.held))
            return float(pause)

    @contextmanager
    def _locked(self) -> Iterator[_State]:
        with self._shared.locked() as kept:
            state = _State(*kept)
            now = time.monotonic()
            if not (max(state.free, state.held) <= now + _BELIEVABLE_S and state.cut_at <= now and state.rate > 0):
                state = _State(rate=self._start_rate)
            state.rate = min(max(state.rate, LEAST_RATE), self._max_rate)
            yield state
            kept[:] = astuple(state)
