"""A WebSocket client with bounded reads: no call blocks longer than a second, and connecting can be aborted."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Any

import websocket
from websocket import ABNF

from pipeline.core.errors import Unavailable
from pipeline.core.stopping import Stopped, abandonable
from producers.live.websocket_frames import FrameReader

CONNECT_TIMEOUT_S = 10.0  # of each step
OPEN_S = 20.0  # of all steps: DNS, TCP, TLS, handshake
MAX_HANDSHAKE_BYTES = 64 * 1024
# How soon the reader notices that it should stop, or that a timeout has passed.
READ_TIMEOUT_S = 0.5
SEND_S = 1.0  # a venue that does not take 300 bytes within this time has stopped reading
PONG_EVERY_S = 0.25
_CHUNK = 65536


class _Counted:
    """A socket with a limit on the bytes of the handshake, which the library reads one at a time without a limit."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real
        self._read = 0

    def recv(self, size: int) -> bytes:
        data = self._real.recv(size)
        self._read += len(data)
        if self._read > MAX_HANDSHAKE_BYTES:
            raise websocket.WebSocketException(f"handshake longer than {MAX_HANDSHAKE_BYTES} bytes")
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _Handshake(websocket.WebSocket):
    """Connects and performs the handshake; `raw` is the socket, which another thread may close meanwhile."""

    raw: socket.socket | None = None

    @property
    def sock(self) -> Any:
        return self._guarded

    @sock.setter
    def sock(self, real: socket.socket | None) -> None:
        self.raw = real
        self._guarded = None if real is None else _Counted(real)

    def abandon(self) -> None:
        if self.raw is not None:
            with suppress(OSError):
                self.raw.shutdown(socket.SHUT_RDWR)  # ends a read in another thread; closing would not


class Socket:
    """An open connection. Every method returns within about a second and raises `Unavailable` if the connection is
    lost."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        opening = _Handshake(skip_utf8_validation=True, enable_multithread=False)
        opening.settimeout(CONNECT_TIMEOUT_S)

        def connect() -> socket.socket:
            opening.connect(  # type: ignore[no-untyped-call]
                url, timeout=CONNECT_TIMEOUT_S, redirect_limit=0, header={"User-Agent": "market-data-pipeline"}
            )
            assert opening.raw is not None
            return opening.raw

        try:
            self._socket = abandonable(connect, stop, "connect", OPEN_S, opening.abandon)
        except (websocket.WebSocketException, OSError, ValueError) as error:
            raise Unavailable(f"{url}: {type(error).__name__}: {str(error)[:500]}") from None
        except Stopped:
            opening.abandon()
            raise
        self._socket.settimeout(READ_TIMEOUT_S)
        self._reader = FrameReader()
        self._ponged_at = 0.0

    def receive(self) -> bytes | None:
        """Return the next message, or None after `READ_TIMEOUT_S`. Answers pings."""
        now = time.monotonic()
        until = now + READ_TIMEOUT_S
        while True:
            message = self._reader.next(now)
            if message is not None:
                return message
            if self._reader.closed is not None:
                reason = self._reader.closed[2:].decode(errors="replace")
                raise Unavailable(f"closed by the venue: {reason or 'no reason given'}")
            if self._reader.ping is not None and now - self._ponged_at > PONG_EVERY_S:
                self._ponged_at = now
                self._write(self._reader.ping, ABNF.OPCODE_PONG)
                self._reader.ping = None
            if now >= until:
                return None
            try:
                data = self._socket.recv(_CHUNK)
            except TimeoutError:
                data = None
            except (OSError, ValueError) as error:
                raise Unavailable(f"{type(error).__name__}: {error}") from None
            if data == b"":
                raise Unavailable("the connection was closed without a close frame")
            if data:
                self._reader.feed(data)
            now = time.monotonic()

    def send(self, text: str) -> None:
        self._write(text.encode(), ABNF.OPCODE_TEXT)

    def _write(self, payload: bytes, opcode: int, within_s: float = SEND_S) -> None:
        left = memoryview(ABNF.create_frame(payload, opcode).format())
        until = time.monotonic() + within_s
        try:
            self._socket.settimeout(within_s)
            while left:
                left = left[self._socket.send(left) :]
                if left and time.monotonic() > until:
                    raise TimeoutError("the venue has stopped reading")
            self._socket.settimeout(READ_TIMEOUT_S)
        except (OSError, ValueError) as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from None

    def close(self) -> None:
        """Close at once, without waiting for the peer's close frame."""
        with suppress(Unavailable):  # already lost
            self._write((1000).to_bytes(2, "big"), ABNF.OPCODE_CLOSE, 0.2)
        with suppress(OSError):
            self._socket.close()
