"""Rate-limit repeated log messages."""

from __future__ import annotations

import time
from collections import OrderedDict

LOG_EVERY_S = 5.0
MAX_KEPT = 256  # bounded, because the venue may choose the text


class LogLimiter:
    """Allows each message once per `every_s` seconds, and about 50 different messages per second in total.

    Used by one thread.
    """

    def __init__(self, every_s: float = LOG_EVERY_S) -> None:
        self._every_s = every_s
        self._logged_at: OrderedDict[str, float] = OrderedDict()

    def allows(self, what: str) -> bool:
        """Return whether `what` may be logged now; if so, it counts as logged."""
        now = time.monotonic()
        logged_at = self._logged_at.get(what)
        if logged_at is not None and now - logged_at < self._every_s:
            return False
        if logged_at is None and len(self._logged_at) >= MAX_KEPT:
            oldest = next(iter(self._logged_at))
            if now - self._logged_at[oldest] < self._every_s:
                return False  # too many different messages in this time
            del self._logged_at[oldest]
        self._logged_at[what] = now
        self._logged_at.move_to_end(what)
        return True
