"""The connection that a venue's address asks for: a WebSocket, or a stream of lines over HTTP."""

from __future__ import annotations

import threading
from typing import Protocol

from producers.live.line_stream import LineStream
from producers.live.websocket import Socket


class Transport(Protocol):
    """Every method raises `Unavailable` when the connection is gone, and returns within about a second."""

    def receive(self) -> bytes | None:
        """The next frame; None when none came within half a second."""

    def send(self, text: str) -> None:
        """A text that the venue made."""

    def close(self) -> None:
        """End it at once."""


def connect(url: str, stop: threading.Event) -> Transport:
    """Raises `Unavailable`, or `Stopped` when `stop` is set meanwhile."""
    return LineStream(url, stop) if url.startswith("http") else Socket(url, stop)
