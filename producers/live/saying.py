"""Saying once in a while what happens again and again."""

from __future__ import annotations

import time
from collections import OrderedDict

SAY_EVERY_S = 5.0
MAX_KEPT = 256  # a venue may choose what is said


class Sayer:
    """`may_say(what)`: whether it was not said within `every_s`. At most some 50 things a second in all."""

    def __init__(self, every_s: float = SAY_EVERY_S) -> None:
        self._every_s = every_s
        self._said: OrderedDict[str, float] = OrderedDict()

    def may_say(self, what: str) -> bool:
        now = time.monotonic()
        said_at = self._said.get(what)
        if said_at is not None and now - said_at < self._every_s:
            return False
        if said_at is None and len(self._said) >= MAX_KEPT:
            oldest = next(iter(self._said))
            if now - self._said[oldest] < self._every_s:
                return False  # too many different things within this time
            del self._said[oldest]
        self._said[what] = now
        self._said.move_to_end(what)
        return True
