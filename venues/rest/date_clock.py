"""Offset of a venue's clock from ours, from the `Date` of its HTTP answers (RFC 9110, section 6.6.1: whole seconds).

An answer of second D, requested at `sent` and received at `received`, bounds the offset (venue's clock minus ours) to
[D - received, D + 1 s - sent]. Intersecting several answers narrows it down to the shortest round trip.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

SECOND_US = 1_000_000
KEPT = 60
AGREES_US = 10 * SECOND_US


def date_us(date: str | None) -> int | None:
    """Convert a `Date` header to µs since 1970; None if it is absent or invalid."""
    try:
        return round(parsedate_to_datetime(date or "").timestamp()) * SECOND_US
    except (TypeError, ValueError, OverflowError):
        return None


def age_s(headers: Mapping[str, str]) -> float:
    """Return for how many seconds a cache has kept the answer (`Age`, RFC 9111, section 5.1); 0 if none has."""
    age = headers.get("Age", "").strip()
    return float(age) if age.isdecimal() else 0.0


class DateClock:
    """Estimates the offset. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bounds: deque[tuple[int, int]] = deque(maxlen=KEPT)

    def note(self, date: str | None, sent_us: int, received_us: int) -> None:
        """Add the `Date` header of one answer; an invalid date is ignored."""
        at_us = date_us(date)
        if at_us is None:
            return
        low, high = at_us - received_us, at_us + SECOND_US - sent_us
        with self._lock:
            if self._bounds and (low > min(h for _, h in self._bounds) or high < max(b for b, _ in self._bounds)):
                self._bounds.clear()  # one of the clocks was set
            self._bounds.append((low, high))

    @property
    def offset_us(self) -> int | None:
        """The venue's clock minus ours, accurate to about half a second; None before the first answer."""
        with self._lock:
            if not self._bounds:
                return None
            return (max(low for low, _ in self._bounds) + min(high for _, high in self._bounds)) // 2

    @property
    def agrees(self) -> bool:
        """Whether the clocks are known to agree to ten seconds."""
        offset = self.offset_us
        return offset is not None and abs(offset) <= AGREES_US
