"""Resubscriptions that a parser asks for, because an update was lost or a checksum is wrong."""

from __future__ import annotations

Key = tuple[str, str]  # channel, product

# The first resubscription is immediate, later ones back off: a venue whose data never fits would otherwise be asked
# forever, and all its products share the rate at which it lets us send.
FIRST_PAUSE_S, CAP_S = 1.0, 600.0


class Renewals:
    """Backoff per channel and product, kept across connections. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._last: dict[Key, tuple[float, float]] = {}  # when it was due, and the pause before that

    def ask(self, key: Key, now: float) -> bool:
        """Schedule a resubscription after the key's pause. Returns False if one is scheduled already."""
        if key in self._due:
            return False
        last, pause = self._last.get(key, (-CAP_S, 0.0))
        pause = 0.0 if now - last >= CAP_S else min(CAP_S, max(FIRST_PAUSE_S, pause * 2))
        self._due[key] = now + pause
        self._last[key] = self._due[key], pause
        return True

    def due(self, now: float) -> list[Key]:
        """Return the keys to resubscribe now, each once."""
        found = [key for key, at in self._due.items() if now >= at]
        for key in found:
            del self._due[key]
        return found

    def forget(self) -> None:
        """Drop what is scheduled: a new connection subscribes to everything anyway. The pauses are kept."""
        self._due.clear()
