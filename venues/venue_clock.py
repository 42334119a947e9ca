"""How far a venue's clock is from ours, from the times in its frames."""

from __future__ import annotations

from collections import deque

# A frame's time less its arrival is the offset less what the way took. The largest of a second is that with the
# shortest way.
BUCKET_US = 1_000_000
# Long enough to even out a slow minute, short enough that a clock which was set shows within one.
BUCKETS = 60
# The upper quarter of the buckets: near the shortest way, and single frames with a wrong time do not reach it.
QUANTILE = 0.75
NOTABLE_US = 1_000_000


class VenueClock:
    """`offset_us`: the venue's clock less ours, None until it was measured. It is shown, never used to judge data."""

    def __init__(self) -> None:
        self.offset_us: int | None = None
        self._buckets: deque[int] = deque(maxlen=BUCKETS)
        self._bucket: int | None = None
        self._best = 0
        self._said_us = 0

    def seen(self, venue_us: int, received_us: int) -> None:
        """A frame that the venue sent now."""
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
        """Whether the offset is notable, or no longer, and has changed by more than a second since this was asked."""
        if self.offset_us is None or abs(self.offset_us - self._said_us) <= NOTABLE_US:
            return False
        if abs(self.offset_us) <= NOTABLE_US:
            self._said_us = 0
        else:
            self._said_us = self.offset_us
        return True
