"""Subscriptions that a parser wants to begin anew, because what came of them cannot be continued."""

from __future__ import annotations

Key = tuple[str, str]  # channel, product

# The first time at once, then later and later: a venue whose data never fit would be asked without end, and all its
# products share what it lets us send.
FIRST_PAUSE_S, CAP_S = 1.0, 600.0


class Renewals:
    """Of one connection after the other. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._last: dict[Key, tuple[float, float]] = {}  # when it was due, and the pause before that

    def ask(self, key: Key, now: float) -> bool:
        """Begin it anew when its pause is over. Returns False where that is to come already."""
        if key in self._due:
            return False
        last, pause = self._last.get(key, (-CAP_S, 0.0))
        pause = 0.0 if now - last >= CAP_S else min(CAP_S, max(FIRST_PAUSE_S, pause * 2))
        self._due[key] = now + pause
        self._last[key] = self._due[key], pause
        return True

    def due(self, now: float) -> list[Key]:
        """Those to begin anew now; each is given once."""
        found = [key for key, at in self._due.items() if now >= at]
        for key in found:
            del self._due[key]
        return found

    def forget(self) -> None:
        """A new connection, on which everything begins anew."""
        self._due.clear()
