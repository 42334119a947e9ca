"""Detect frames lost on a connection, by the venue's sequence numbers."""

from __future__ import annotations

from venues.events import FramesLost

BELIEVED_FRAMES = 1_000_000


class FrameCount:
    """Tracks the sequence numbers of one connection."""

    def __init__(self) -> None:
        self._next: int | None = None

    def forget(self) -> None:
        """Start over. Call it for a new connection, whose first frame may have any number."""
        self._next = None

    def lost(self, number: int) -> list[FramesLost]:
        """Return the frames lost before this one, as an event or none; an implausibly large jump is ignored."""
        expected = self._next
        if expected is not None and number - expected > BELIEVED_FRAMES:
            return []
        self._next = max(number + 1, expected or 0)
        return [FramesLost(number - expected)] if expected is not None and number > expected else []
