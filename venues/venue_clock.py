"""Offset of a venue's clock from ours, from the times in its frames."""

from __future__ import annotations

from collections import deque

# A frame's time minus its arrival is the offset minus the network delay; the largest in a second has the least delay.
BUCKET_US = 1_000_000
# Long enough to even out a slow minute, short enough that a clock that was set shows within a minute.
BUCKETS = 60
# Near the least delay, and not affected by single frames with a wrong time.
QUANTILE = 0.75
NOTABLE_US = 1_000_000


class VenueClock:
    """Estimates `offset_us`: the venue's clock minus ours, None until measured.

    Measured against the system clock, the offset is for display only, because that clock may be wrong. Measured against
    a monotonic clock (`venues.timed_candles`), it shows which frame has a wrong time.
    """

    def __init__(self) -> None:
        self.offset_us: int | None = None
        self._buckets: deque[int] = deque(maxlen=BUCKETS)
        self._bucket: int | None = None
        self._best = 0
        self._reported_us = 0

    def seen(self, venue_us: int, received_us: int) -> None:
        """Add the venue's time in a frame and our time of its arrival, in µs."""
        difference = venue_us - received_us
        bucket = received_us // BUCKET_US
        if bucket != self._bucket:
            if self._bucket is not None:
                self._buckets.append(self._best)
                self._estimate()
            self._bucket, self._best = bucket, difference
        elif difference > self._best:
            self._best = difference

    def _estimate(self) -> None:
        ordered = sorted(self._buckets)
        self.offset_us = ordered[int(QUANTILE * (len(ordered) - 1))]

    def changed(self) -> bool:
        """Return whether the offset differs by more than a second from the last one reported, which it then becomes.
        An offset of less than a second counts as zero."""
        if self.offset_us is None or abs(self.offset_us - self._reported_us) <= NOTABLE_US:
            return False
        if abs(self.offset_us) <= NOTABLE_US:
            self._reported_us = 0
        else:
            self._reported_us = self.offset_us
        return True
