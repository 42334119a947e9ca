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
    """Estimates `offset_us`: the venue's clock minus ours, None until measured. Against the machine's clock it is for
    display, and never used to judge data; against one that nobody sets it shows which frame has a wrong time."""

    def __init__(self) -> None:
        self.offset_us: int | None = None
        self._buckets: deque[int] = deque(maxlen=BUCKETS)
        self._bucket: int | None = None
        self._best = 0
        self._said_us = 0

    def seen(self, venue_us: int, received_us: int) -> None:
        """Add the time of a frame and of its arrival, in µs since 1970."""
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

    def news(self) -> bool:
        """Whether the offset has changed by more than a second since the last report, or is no longer notable."""
        if self.offset_us is None or abs(self.offset_us - self._said_us) <= NOTABLE_US:
            return False
        if abs(self.offset_us) <= NOTABLE_US:
            self._said_us = 0
        else:
            self._said_us = self.offset_us
        return True
