"""A server that drips, floods or lies over HTTP must not keep the reader, and nothing of it grows without a bound."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from pipeline.core.errors import Unavailable
from producers.live import line_stream
from producers.live.line_stream import LineStream
from producers.live.transport import connect
from tests.hostile_server import hostile
from tests.venue_help import until

Behave = Callable[[socket.socket, threading.Event], None]
REQUEST = json.dumps({"target": "/prices?x=1", "headers": {"Authorization": "Bearer t"}})
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def request_of(peer: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        request += peer.recv(4096)
    return request


def after_request(answer: bytes, then: Behave = lambda peer, over: None) -> Behave:
    def behave(peer: socket.socket, over: threading.Event) -> None:
        request_of(peer)
        peer.sendall(answer)
        then(peer, over)

    return behave


def opened(url: str) -> LineStream:
    made = connect(url.replace("ws:", "http:"), threading.Event())
    assert isinstance(made, LineStream)
    made.send(REQUEST)
    return made


def received(stream: LineStream) -> list[bytes]:
    """What comes until it ends; the reason is the last of it."""
    frames: list[bytes] = []
    with suppress(Unavailable):
        while len(frames) < 1000:
            frames += [frame for frame in [stream.receive()] if frame is not None]
    return frames


def ends_with(stream: LineStream, said: str) -> None:
    with pytest.raises(Unavailable, match=said):
        received_until_error(stream)


def received_until_error(stream: LineStream) -> None:
    for _ in range(1000):
        stream.receive()


def test_lines_are_given_whole_however_they_are_cut() -> None:
    """Prevents a line that ends where a chunk does."""
    body = HEAD + chunk(b'{"a":') + chunk(b'1}\n\n{"b":2}\n{"c"') + chunk(b":3}\n") + b"0\r\n\r\n"
    with hostile(after_request(body)) as url:
        stream = opened(url)
        assert received(stream) == [b'{"status":200}', b'{"a":1}', b'{"b":2}', b'{"c":3}']


def test_a_line_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_stream, "MAX_LINE_BYTES", 10_000)

    def flood(peer: socket.socket, over: threading.Event) -> None:
        while not over.is_set():
            peer.sendall(chunk(b"x" * 1000))

    with hostile(after_request(HEAD, flood)) as url:
        stream = opened(url)
        assert until("the status", stream.receive) == b'{"status":200}'
        ends_with(stream, "a line of more than 10000 bytes")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 503 Unavailable\r\nContent-Length: 4\r\n\r\nbusy", "503 busy"),
        (b"HTTP/1.1 429 Slow down\r\nContent-Length: 0\r\n\r\n", "429"),
        (b"something else\r\n\r\n", "BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n", "LineTooLong"),
        (HEAD + b"zz\r\nnot a chunk", "the stream ended"),
        (HEAD + b"5\r\nab", "IncompleteRead|the stream ended"),
        (b"", "RemoteDisconnected"),
    ],
)
def test_an_answer_that_is_none_ends_the_connection(answer: bytes, said: str) -> None:
    with hostile(after_request(answer)) as url:
        ends_with(opened(url), said)


def test_nobody_there_ends_the_connection(free_port: Callable[[], int]) -> None:
    ends_with(opened(f"http://127.0.0.1:{free_port()}"), "ConnectionRefusedError")


def test_a_refusal_leaves_the_stream_running_and_a_grant_replaces_it() -> None:
    """Prevents lines of two streams from being mixed, and a wrong request from ending the right one."""
    answers = [HEAD, b"HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\nno", HEAD]
    numbers = iter(range(3))

    def behave(peer: socket.socket, over: threading.Event) -> None:
        number = next(numbers)
        assert request_of(peer).startswith(b"GET /prices?x=1 HTTP/1.1\r\n")
        peer.sendall(answers[number])
        while number != 1 and not over.wait(0.05):
            peer.sendall(chunk(b"%d\n" % number))

    with hostile(behave) as url:
        stream = opened(url)
        assert until("the status", stream.receive) == b'{"status":200}'
        assert until("a line", stream.receive) == b"0"
        stream.send(REQUEST)
        until("the refusal", lambda: stream.receive() == b'{"status": 400, "reason": "no"}')
        assert until("a line", stream.receive) == b"0"
        stream.send(REQUEST)
        until("the grant", lambda: stream.receive() == b'{"status":200}')
        assert {stream.receive() for _ in range(5)} == {b"2"}
        stream.close()


def test_closing_ends_a_read_that_waits() -> None:
    """Prevents a thread for each connection that ever was."""

    def silent(peer: socket.socket, over: threading.Event) -> None:
        over.wait()

    before = set(threading.enumerate())
    with hostile(after_request(HEAD, silent)) as url:
        stream = opened(url)
        assert until("the status", stream.receive) == b'{"status":200}'
        assert stream.receive() is None
        stream.close()
        until(
            "its threads end",
            lambda: not {"lines", "line-requests"} & {t.name for t in set(threading.enumerate()) - before},
        )


def test_the_address_says_which_it_is() -> None:
    with pytest.raises(Unavailable):
        connect("ws://127.0.0.1:9/", threading.Event())
    assert isinstance(connect("https://127.0.0.1:9/", threading.Event()), LineStream)


def test_lines_that_nobody_takes_are_few() -> None:
    """Prevents: gigabytes of memory, when a venue sends long lines faster than they are read."""

    def flood(peer: socket.socket, over: threading.Event) -> None:
        line = b"x" * (line_stream.MAX_LINE_BYTES - 1) + b"\n"
        while not over.is_set():
            peer.sendall(chunk(line))

    with hostile(after_request(HEAD, flood)) as url:
        stream = opened(url)

        def waiting() -> int:
            return sum(len(one) for one in list(stream._frames.queue) if isinstance(one, bytes))

        until("all that may wait", lambda: stream._frames.full() or waiting() > 64 << 20)
        assert waiting() <= 64 << 20
        stream.close()
