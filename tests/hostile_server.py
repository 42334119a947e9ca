"""A WebSocket server over a raw socket that does what no honest one does."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(payload: bytes, opcode: int = 1, *, final: bool = True) -> bytes:
    size = len(payload)
    head = bytes([(0x80 if final else 0) | opcode])
    if size < 126:
        return head + bytes([size]) + payload
    if size < 1 << 16:
        return head + bytes([126]) + size.to_bytes(2, "big") + payload
    return head + bytes([127]) + size.to_bytes(8, "big") + payload


def shake_hands(peer: socket.socket) -> None:
    """Answer the client's handshake as an honest server does."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += peer.recv(4096)
    key = next(
        line.split(b": ", 1)[1] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
    )
    accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest())
    peer.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept
        + b"\r\n\r\n"
    )


@contextmanager
def hostile(behave: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """Its address. `behave(peer, over)` runs in a thread per connection, until the client is gone or `over` is set."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)

    def serve(peer: socket.socket) -> None:
        with peer, suppress(OSError):
            peer.settimeout(5)
            behave(peer, over)

    def accept() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                peer, _ = listener.accept()
                threading.Thread(target=serve, args=(peer,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        over.set()
        thread.join(10)
        listener.close()
