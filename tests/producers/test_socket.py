"""A venue that drips, floods or lies must not keep the reader: no clock would run, and SIGTERM would not be heard."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

import producers.live.websocket
import producers.live.websocket_frames
from pipeline.core.errors import Unavailable
from pipeline.core.stopping import Stopped
from producers.live.websocket import Socket
from producers.live.websocket_frames import MAX_FRAGMENTS, MAX_MESSAGE_BYTES, FrameReader
from tests.hostile_server import frame, hostile, shake_hands

Behave = Callable[[socket.socket, threading.Event], None]
# What `receive` promises is a second; the rest is for a machine with other work.
PATIENCE_S = 5.0


def after_handshake(send: Callable[[socket.socket, threading.Event], None]) -> Behave:
    def behave(peer: socket.socket, over: threading.Event) -> None:
        shake_hands(peer)
        send(peer, over)

    return behave


def drip(data: bytes) -> Behave:
    def send(peer: socket.socket, over: threading.Event) -> None:
        for number in range(len(data)):
            peer.sendall(data[number : number + 1])
            if over.wait(0.3):
                return

    return after_handshake(send)


def flood(data: bytes, first: bytes = b"") -> Behave:
    def send(peer: socket.socket, over: threading.Event) -> None:
        peer.sendall(first)
        while not over.is_set():
            peer.sendall(data)

    return after_handshake(send)


def first_message(opened: Socket) -> bytes:
    while (message := opened.receive()) is None:
        pass
    return message


def longest_pause(url: str, seconds: float) -> float:
    """Receive over this time; the longest time that one call took."""
    opened = Socket(url, threading.Event())
    moments = [time.monotonic()]
    try:
        while moments[-1] - moments[0] < seconds:
            assert opened.receive() is None
            moments.append(time.monotonic())
    finally:
        opened.close()
    return max(b - a for a, b in pairwise(moments))


@pytest.mark.parametrize(
    "behave",
    [
        drip(frame(b"x" * 100)),
        flood(frame(b"are you there", 9) * 1000),
        flood(frame(b"", 10) * 1000),
        flood(frame(b"ping", 9) * 500, first=frame(b"begun", final=False)),
    ],
    ids=["a byte at a time", "pings", "pongs", "pings inside a message"],
)
def test_no_peer_keeps_the_reader_busy_without_a_message(behave: Behave) -> None:
    with hostile(behave) as url:
        assert longest_pause(url, 3.0) < PATIENCE_S


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (flood(frame(b"", 0, final=False) * 1000, first=frame(b"", final=False)), "fragments"),
        (flood(frame(b"x" * 60_000, 0, final=False), first=frame(b"", final=False)), "message of"),
        (flood(b"\x81\x7f" + (1 << 40).to_bytes(8, "big")), "message of 1099511627776 bytes"),
        (flood(b"\xf1\x00"), "reserved bits"),
        (flood(b"\x81\x80\0\0\0\0"), "reserved bits"),
        (flood(b"\x83\x00"), "unknown opcode"),
        (flood(b"\x09\x00"), "control frame"),
        (flood(b"\x89\x7e\x00\xff"), "control frame"),
        (flood(frame(b"", 0)), "interleaved"),
        (flood(frame(b"a", final=False) + frame(b"b")), "interleaved"),
        (after_handshake(lambda peer, over: peer.sendall(frame(b"\x03\xe8bye", 8))), "closed by the venue: bye"),
        (after_handshake(lambda peer, over: None), "without a close frame"),
    ],
)
def test_what_breaks_a_bound_or_the_protocol_ends_the_connection(behave: Behave, reason: str) -> None:
    with hostile(behave) as url:
        opened = Socket(url, threading.Event())
        with pytest.raises(Unavailable, match=reason):
            first_message(opened)
        opened.close()


def test_a_message_that_is_never_whole_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producers.live.websocket_frames, "MESSAGE_S", 1.0)
    with hostile(drip(frame(b"x" * 100))) as url:
        opened = Socket(url, threading.Event())
        with pytest.raises(Unavailable, match="incomplete"):
            first_message(opened)
        opened.close()


def handshake_of(data: bytes, pause_s: float = 0.0) -> Behave:
    def behave(peer: socket.socket, over: threading.Event) -> None:
        peer.recv(4096)
        while not over.wait(pause_s):
            peer.sendall(data)

    return behave


def test_an_endless_handshake_is_given_up() -> None:
    with hostile(handshake_of(b"X: " + b"x" * 1000 + b"\r\n")) as url, pytest.raises(Unavailable):
        Socket(url, threading.Event())


def test_a_dripping_handshake_is_given_up_and_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte starts the library's time-out anew."""
    monkeypatch.setattr(producers.live.websocket, "OPEN_S", 1.0)
    with hostile(handshake_of(b"H", 0.2)) as url:
        with pytest.raises(Unavailable, match="timed out after"):
            Socket(url, threading.Event())
        until = time.monotonic() + 30
        while any(thread.name == "connect" for thread in threading.enumerate()):
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_stop_is_heard_during_the_handshake() -> None:
    stop = threading.Event()
    with hostile(handshake_of(b"H", 0.2)) as url:
        threading.Timer(0.3, stop.set).start()
        with pytest.raises(Stopped):
            Socket(url, stop)


def test_a_redirect_is_not_followed() -> None:
    """A venue that is taken over could send us anywhere, also into the local network."""

    def redirect(peer: socket.socket, _over: threading.Event) -> None:
        peer.recv(4096)
        peer.sendall(b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\n\r\n")

    with hostile(redirect) as url, pytest.raises(Unavailable, match="edirect"):
        Socket(url, threading.Event())


def test_a_peer_that_does_not_read_does_not_keep_the_sender() -> None:
    with hostile(after_handshake(lambda peer, over: over.wait(30))) as url:
        opened = Socket(url, threading.Event())
        with pytest.raises(Unavailable):
            opened.send("x" * 100_000_000)
        opened.close()


def test_messages_in_any_cut_are_the_same() -> None:
    """The reader takes bytes as TCP gives them: a header in two pieces must not shift everything after it."""
    stream = (
        frame(b"one")
        + frame(b"", 9)
        + frame(b"tw", final=False)
        + frame(b"p", 9)
        + frame(b"o", 0)
        + frame(b"3" * 200)
        + frame(b"4" * 70_000)
        + frame(b"")
    )
    wanted = [b"one", b"two", b"3" * 200, b"4" * 70_000, b""]
    for size in (1, 2, 3, 7, 1000, 65536, len(stream)):
        reader, found = FrameReader(), []
        for start in range(0, len(stream), size):
            reader.feed(stream[start : start + size])
            while (message := reader.next(0.0)) is not None:
                found.append(message)
        assert found == wanted, size
    assert MAX_FRAGMENTS * 125 < MAX_MESSAGE_BYTES
