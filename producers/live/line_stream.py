"""A stream of lines over HTTP, bounded, with the interface of a WebSocket.

Each text sent is a GET request, `{"target": "/path?query", "headers": {...}}`. For every request, in order, one frame
tells its outcome: `{"status": 200}`, or another status with the beginning of the body as `reason`. All other frames are
lines of the newest request that succeeded: it replaces the one before, while a refused one leaves that running.
"""

from __future__ import annotations

import http.client
import json
import queue
import socket
import ssl
import threading
from contextlib import suppress
from urllib.parse import urlsplit

from pipeline.core.errors import Unavailable

CONNECT_TIMEOUT_S = 10.0
# How soon the reader notices that it should stop, or that a timeout has passed.
READ_TIMEOUT_S = 0.5
# Timeout of each read. OANDA sends a heartbeat every 5 s; the connection's own timeout is shorter.
SILENT_S = 60.0
# OANDA allows 2 new connections a second.
BETWEEN_S = 0.6
MAX_LINE_BYTES = 32 << 10  # a price has some 500 bytes
MAX_REASON_BYTES = 500
# Lines that wait for the reader, so 32 MB at most. When the queue is full, the venue's sender has to wait.
MAX_WAITING = 1_000


class LineStream:
    """Implements `producers.live.transport.Transport`. Connects when the first request is sent."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        self._url, self._stop = urlsplit(url), stop
        self._requests: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._frames: queue.Queue[bytes | Unavailable] = queue.Queue(MAX_WAITING)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._current: http.client.HTTPConnection | None = None
        self._opening: http.client.HTTPConnection | None = None
        threading.Thread(target=self._run, name="line-requests", daemon=True).start()

    def receive(self) -> bytes | None:
        try:
            frame = self._frames.get(timeout=READ_TIMEOUT_S)
        except queue.Empty:
            return None
        if isinstance(frame, Unavailable):
            raise frame
        return frame

    def send(self, text: str) -> None:
        self._requests.put(text)

    def close(self) -> None:
        self._closed.set()
        for connection in (self._current, self._opening):
            _shut_down(connection)

    def _is_over(self) -> bool:
        return self._closed.is_set() or self._stop.is_set()

    def _run(self) -> None:
        """Make the requests one by one, in a thread of its own: connecting may take longer than the reader waits."""
        while not self._is_over():
            try:
                text = self._requests.get(timeout=READ_TIMEOUT_S)
            except queue.Empty:
                continue
            try:
                self._request(json.loads(text))
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._put(Unavailable(f"{self._url.geturl()}: {type(error).__name__}: {str(error)[:500]}"), None)
            self._closed.wait(BETWEEN_S)

    def _request(self, request: dict[str, object]) -> None:
        host, port = self._url.hostname or "", self._url.port
        opened: http.client.HTTPConnection
        if self._url.scheme == "https":
            context = ssl.create_default_context()
            opened = http.client.HTTPSConnection(host, port, timeout=CONNECT_TIMEOUT_S, context=context)
        else:
            opened = http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT_S)
        self._opening = opened
        headers = {"User-Agent": "market-data-pipeline", **dict(request["headers"])}  # type: ignore[call-overload]
        opened.request("GET", f"{self._url.path.rstrip('/')}{request['target']}", headers=headers)
        answer = opened.getresponse()
        if answer.status != 200:
            reason = answer.read(MAX_REASON_BYTES).decode(errors="replace")
            _shut_down(opened)
            if answer.status == 429 or answer.status >= 500:
                raise OSError(f"{answer.status} {reason[:100]}")
            self._put(json.dumps({"status": answer.status, "reason": reason}).encode(), None)
            return
        if opened.sock is not None:
            opened.sock.settimeout(SILENT_S)
        with self._lock:  # no line of the previous connection comes after this
            before, self._current = self._current, opened
            self._put(b'{"status":200}', opened)
        _shut_down(before)
        threading.Thread(target=self._read, args=(opened, answer), name="lines", daemon=True).start()

    def _read(self, opened: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> None:
        """Queue the lines of an answer, until it ends or another replaces it."""
        why = "the stream ended"
        try:
            while line := answer.readline(MAX_LINE_BYTES + 1):
                if len(line) > MAX_LINE_BYTES:
                    why = f"a line of more than {MAX_LINE_BYTES} bytes"
                    break
                if line.strip() and not self._put(line.strip(), opened):
                    return
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:  # AttributeError: closed
            why = f"{type(error).__name__}: {str(error)[:500]}"
        _shut_down(opened)
        self._put(Unavailable(why), opened)

    def _put(self, frame: bytes | Unavailable, of: http.client.HTTPConnection | None) -> bool:
        """Queue a frame of the connection `of`; returns False if that is no longer the current one. `of` None: queue it
        in any case."""
        while not self._is_over():
            if of is not None and of is not self._current:
                return False
            with suppress(queue.Full):
                self._frames.put(frame, timeout=READ_TIMEOUT_S)
                return True
        return False


def _shut_down(connection: http.client.HTTPConnection | None) -> None:
    """Shut a connection down. Callable from any thread: a blocked read in another one ends too."""
    if connection is not None and connection.sock is not None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
