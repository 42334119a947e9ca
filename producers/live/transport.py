"""Open the connection that a venue's URL calls for: a WebSocket, or a stream of lines over HTTP."""

from __future__ import annotations

import threading
from typing import Protocol

from producers.live.line_stream import LineStream
from producers.live.websocket import Socket


class Transport(Protocol):
    """An open connection. `receive` and `send` return within about a second and raise `Unavailable` once it is lost.

    Used by one thread.
    """

    def receive(self) -> bytes | None:
        """Return the next frame, or None if none came within half a second."""

    def send(self, text: str) -> None:
        """Send a message made by `Venue.subscribe`, `Venue.unsubscribe` or `Venue.opened`."""

    def close(self) -> None:
        """Close at once. Never raises."""


def connect(url: str, stop: threading.Event) -> Transport:
    """Connect to `url`. Raises `Unavailable`, or `Stopped` if `stop` is set meanwhile."""
    return LineStream(url, stop) if url.startswith("http") else Socket(url, stop)
