"""The vendor's clock, from the `Date` of its answers. Our own clock may be wrong, so nothing depends on it alone.

Times are based on CLOCK_MONOTONIC, which nobody sets, so a jump of our clock has no effect here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from pipeline.core import events, metrics
from pipeline.core.log import get_logger
from pipeline.core.runtime import now_us
from producers.dukascopy.instruments import VENUE
from venues.rest.date_clock import SECOND_US, DateClock, age_s

# `Date` has whole seconds and answers take time; a smaller offset is not worth a log line.
LOG_FROM_S = 2.0
MOST_AHEAD_US = 12 * 3_600_000_000
MOST_AGE_S = 1e8  # what is said to be older is not believed


def _believable(date: str | None) -> bool:
    """Whether the date is valid and within a plausible range of years."""
    try:
        return 2020 <= parsedate_to_datetime(date or "").year < 2100
    except (TypeError, ValueError, OverflowError):
        return False


def age_us(headers: Mapping[str, str]) -> int:
    """How long ago an answer was given: by its `Age` if it comes from a cache on the way, otherwise just now."""
    age = age_s(headers)
    return int(age) * SECOND_US if age < MOST_AGE_S else 0


def monotonic_us() -> int:
    return time.monotonic_ns() // 1000


class VenueClock:
    """Estimates the vendor's clock; unknown until the first answer. Thread-safe."""

    def __init__(self) -> None:
        self._dates = DateClock()  # against our monotonic clock
        self._logged_s = 0.0

    def note(self, headers: Mapping[str, str], sent_us: int, received_us: int) -> None:
        """Add the headers of an answer, with the monotonic times (µs) of sending the request and receiving it."""
        if old_us := age_us(headers):  # so is its `Date`
            sent_us, received_us = sent_us - old_us - SECOND_US, received_us - old_us
        date = headers.get("Date")
        if not _believable(date):
            return
        self._dates.note(date, sent_us, received_us)
        offset_s = self.offset_s
        if offset_s is None:
            return
        metrics.CLOCK_OFFSET.labels(VENUE).set(offset_s)
        if abs(offset_s - self._logged_s) > LOG_FROM_S:
            self._logged_s = offset_s
            get_logger().warning(
                events.CLOCK_OFFSET,
                venue=VENUE,
                clock_offset_s=round(offset_s, 1),
                text=f"our clock is {abs(offset_s):.0f} s {'behind' if offset_s > 0 else 'ahead of'} the vendor's",
            )

    def vendor_us(self) -> int | None:
        """The time by the vendor's clock, µs since 1970; None if unknown."""
        offset_us = self._dates.offset_us
        return None if offset_us is None else monotonic_us() + offset_us

    def now_us(self) -> int:
        """The time by the vendor's clock, or by ours until the first answer."""
        vendors = self.vendor_us()
        return now_us() if vendors is None else vendors

    def fetched_us(self, headers: Mapping[str, str]) -> int:
        """The time to record for an answer just received: when it was given. Limited, because writers refuse times a
        day ahead of ours."""
        return min(self.now_us(), now_us() + MOST_AHEAD_US) - age_us(headers)

    def sure_us(self) -> int | None:
        """The earlier of both clocks' times; None if the vendor's is unknown."""
        vendors = self.vendor_us()
        return None if vendors is None else min(vendors, now_us())

    @property
    def offset_s(self) -> float | None:
        """The vendor's clock minus ours, in seconds."""
        vendors = self.vendor_us()
        return None if vendors is None else (vendors - now_us()) / 1e6
