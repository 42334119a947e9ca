"""A WebSocket that bounds what it reads and can be given up while it connects."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import websocket
from websocket import ABNF

from pipeline.errors import Unavailable

T = TypeVar("T")

# Kraken's and Coinbase's largest frames are snapshots of some 100 kB.
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
CONNECT_TIMEOUT_S = 10.0
# How soon the reader notices that it should stop, or that a clock ran out.
READ_TIMEOUT_S = 0.5


class Stopped(Exception):
    """The program should end; nothing went wrong."""


class _Bounded(websocket.WebSocket):
    """Refuses a frame or a fragmented message beyond `MAX_MESSAGE_BYTES` before reading it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        buffer, measure = self.frame_buffer, self.frame_buffer.recv_length

        def recv_length() -> None:
            measure()
            parts = self.cont_frame.cont_data
            size = (buffer.length or 0) + (len(parts[1]) if parts else 0)
            if size > MAX_MESSAGE_BYTES:
                raise websocket.WebSocketPayloadException(f"a message of {size} bytes")

        buffer.recv_length = recv_length  # type: ignore[method-assign]


def abandonable(call: Callable[[], T], stop: threading.Event, name: str) -> T:
    """The result of `call`, which may block; when `stop` is set meanwhile, `Stopped` is raised and it is left alone.

    A blocked connect or answer must not delay the end of the program by its own time-out.
    """
    done = threading.Event()
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(call())
        except BaseException as error:
            failure.append(error)
        finally:
            done.set()

    # With our context, so that log lines from there name the program too.
    threading.Thread(target=run, name=name, daemon=True).start()
    while not done.wait(0.1):
        if stop.is_set():
            raise Stopped
    if failure:
        raise failure[0]
    return result[0]


class Socket:
    """An open connection. Every method raises `Unavailable` when it is gone."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        def connect() -> websocket.WebSocket:
            return websocket.create_connection(
                url,
                timeout=CONNECT_TIMEOUT_S,
                class_=_Bounded,
                skip_utf8_validation=True,  # the JSON decoder looks at it anyway; 4 times faster
                enable_multithread=False,
                redirect_limit=0,
                header={"User-Agent": "market-data-pipeline"},
            )

        try:
            self._socket = abandonable(connect, stop, "connect")
        except (websocket.WebSocketException, OSError, ValueError) as error:
            raise Unavailable(f"{url}: {type(error).__name__}: {error}") from None
        self._socket.settimeout(READ_TIMEOUT_S)

    def receive(self) -> bytes | None:
        """The next message; None when none came within `READ_TIMEOUT_S`. Pings are answered."""
        try:
            opcode, data = self._socket.recv_data()
        except websocket.WebSocketTimeoutException:
            return None
        except (websocket.WebSocketException, OSError, ValueError) as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from None
        if opcode == ABNF.OPCODE_CLOSE:
            raise Unavailable(f"the venue closed: {bytes(data[2:]).decode(errors='replace') or 'without a reason'}")
        return data if isinstance(data, bytes) else str(data).encode()

    def send(self, text: str) -> None:
        try:
            self._socket.send(text)
        except (websocket.WebSocketException, OSError) as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from None

    def close(self) -> None:
        """End it at once; the goodbye of the protocol is not waited for."""
        try:
            self._socket.settimeout(0.2)
            self._socket.send_close()
        except (websocket.WebSocketException, OSError):
            pass  # it was gone already
        self._socket.shutdown()  # type: ignore[no-untyped-call]
