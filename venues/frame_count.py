"""Frames lost on a connection, by the sequence numbers that the venue gives them."""

from __future__ import annotations

from venues.events import FramesLost

BELIEVED_FRAMES = 1_000_000


class FrameCount:
    """Follows the numbers of one connection."""

    def __init__(self) -> None:
        self._next: int | None = None

    def forget(self) -> None:
        """Begin anew. Call it for a new connection, whose first frame may have any number."""
        self._next = None

    def lost(self, number: int) -> list[FramesLost]:
        """Return the jump before this frame, if there is one; an implausibly large jump is ignored."""
        expected = self._next
        if expected is not None and number - expected > BELIEVED_FRAMES:
            return []
        self._next = max(number + 1, expected or 0)
        return [FramesLost(number - expected)] if expected is not None and number > expected else []
