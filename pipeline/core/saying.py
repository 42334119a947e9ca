"""Rate-limit repeated log messages."""

from __future__ import annotations

import time
from collections import OrderedDict

SAY_EVERY_S = 5.0
MAX_KEPT = 256  # bounded, because the venue may choose the text


class Sayer:
    """Lets each message through once per `every_s` seconds, and at most some 50 messages per second in total."""

    def __init__(self, every_s: float = SAY_EVERY_S) -> None:
        self._every_s = every_s
        self._said: OrderedDict[str, float] = OrderedDict()

    def may_say(self, what: str) -> bool:
        """Whether `what` may be logged now; it then counts as logged."""
        now = time.monotonic()
        said_at = self._said.get(what)
        if said_at is not None and now - said_at < self._every_s:
            return False
        if said_at is None and len(self._said) >= MAX_KEPT:
            oldest = next(iter(self._said))
            if now - self._said[oldest] < self._every_s:
                return False  # too many different messages in this time
            del self._said[oldest]
        self._said[what] = now
        self._said.move_to_end(what)
        return True
