"""A stream of lines over HTTP, bounded, with the interface of a WebSocket.

What is sent are requests, `{"target": "/path?query", "headers": {...}}`, each of which is a GET. What is received are
the lines of the newest request that was granted, and before them, for every request in its turn, what became of it:
`{"status": 200}`, or another status with the beginning of the body as `reason`. A request that is granted takes the
place of the one before, one that is refused leaves it running.
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
# How soon the reader notices that it should stop, or that a clock ran out.
READ_TIMEOUT_S = 0.5
# Of each read. OANDA sends a heartbeat every 5 s; the connection's own clock is shorter.
SILENT_S = 60.0
# OANDA allows 2 new connections a second.
BETWEEN_S = 0.6
MAX_LINE_BYTES = 32 << 10  # a price has some 500 bytes
MAX_REASON_BYTES = 500
# Lines that wait for the reader, so 32 MB at most. When it stands still, so does the venue's sender.
MAX_WAITING = 1_000


class LineStream:
    """See `producers.live.transport.Transport`. Nothing is connected before the first request is sent."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        self._url, self._stop = urlsplit(url), stop
        self._texts: queue.SimpleQueue[str] = queue.SimpleQueue()
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
        self._texts.put(text)

    def close(self) -> None:
        self._closed.set()
        for one in (self._current, self._opening):
            _end(one)

    def _over(self) -> bool:
        return self._closed.is_set() or self._stop.is_set()

    def _run(self) -> None:
        """One request after the other, in a thread of its own: connecting may take longer than a reader waits."""
        while not self._over():
            try:
                text = self._texts.get(timeout=READ_TIMEOUT_S)
            except queue.Empty:
                continue
            try:
                self._request(json.loads(text))
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._put(Unavailable(f"{self._url.geturl()}: {type(error).__name__}: {str(error)[:500]}"), None)
            self._closed.wait(BETWEEN_S)

    def _request(self, request: dict[str, object]) -> None:
        host, port = self._url.hostname or "", self._url.port
        made: http.client.HTTPConnection
        if self._url.scheme == "https":
            context = ssl.create_default_context()
            made = http.client.HTTPSConnection(host, port, timeout=CONNECT_TIMEOUT_S, context=context)
        else:
            made = http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT_S)
        self._opening = made
        headers = {"User-Agent": "market-data-pipeline", **dict(request["headers"])}  # type: ignore[call-overload]
        made.request("GET", f"{self._url.path.rstrip('/')}{request['target']}", headers=headers)
        answer = made.getresponse()
        if answer.status != 200:
            reason = answer.read(MAX_REASON_BYTES).decode(errors="replace")
            _end(made)
            if answer.status == 429 or answer.status >= 500:
                raise OSError(f"{answer.status} {reason[:100]}")
            self._put(json.dumps({"status": answer.status, "reason": reason}).encode(), None)
            return
        if made.sock is not None:
            made.sock.settimeout(SILENT_S)
        with self._lock:  # no line of the one before comes after this
            before, self._current = self._current, made
            self._put(b'{"status":200}', made)
        _end(before)
        threading.Thread(target=self._read, args=(made, answer), name="lines", daemon=True).start()

    def _read(self, made: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> None:
        """The lines of one answer, until it ends or another takes its place."""
        why = "the stream ended"
        try:
            while line := answer.readline(MAX_LINE_BYTES + 1):
                if len(line) > MAX_LINE_BYTES:
                    why = f"a line of more than {MAX_LINE_BYTES} bytes"
                    break
                if line.strip() and not self._put(line.strip(), made):
                    return
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:  # the last: closed meanwhile
            why = f"{type(error).__name__}: {str(error)[:500]}"
        _end(made)
        self._put(Unavailable(why), made)

    def _put(self, frame: bytes | Unavailable, of: http.client.HTTPConnection | None) -> bool:
        """Hand on what belongs to the current answer, or to none; False when it is over."""
        while not self._over():
            if of is not None and of is not self._current:
                return False
            with suppress(queue.Full):
                self._frames.put(frame, timeout=READ_TIMEOUT_S)
                return True
        return False


def _end(connection: http.client.HTTPConnection | None) -> None:
    """From any thread: a read that waits in another one ends too."""
    if connection is not None and connection.sock is not None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
