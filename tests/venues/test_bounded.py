"""Answers of a hostile server cost a bounded number of bytes and seconds, whatever they look like."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest
import requests

from pipeline.core.errors import PipelineError, Unavailable, WrongAnswer
from producers.exchange_candles.ccxt_source import CcxtSource
from venues.kraken.parse import rest_result
from venues.rest.bounded import BoundedSession, Redirected, TooLate, TooMuch
from venues.rest.client import Client
from venues.rest.page import elements_of
from venues.rest.rate_limit import RateLimit

MOST = 256 * 1024
Behave = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def hostile() -> Iterator[Callable[[Behave], str]]:
    """Starts a raw server that reads one request of each connection and then does as it is told."""
    servers: list[socket.socket] = []

    def start(behave: Behave) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(peer,), daemon=True).start()

        def one(peer: socket.socket) -> None:
            with peer:
                try:
                    while b"\r\n\r\n" not in peer.recv(65536):
                        pass
                    behave(peer)
                except OSError:
                    pass  # the client had enough

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}"

    yield start
    for server in servers:
        server.close()


def endlessly(head: bytes, piece: bytes, pause_s: float = 0.0) -> Behave:
    def behave(peer: socket.socket) -> None:
        peer.sendall(head)
        while True:
            peer.sendall(piece)
            if pause_s:
                time.sleep(pause_s)

    return behave


def once(answer: bytes) -> Behave:
    return lambda peer: peer.sendall(answer)


def with_body(encoding: str, body: bytes) -> bytes:
    return OK + f"Content-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


BOMB = gzip.compress(bytes(1 << 20)) * 300  # 300 kB
FLOODS = {
    "body": endlessly(OK + b"\r\n", b"x" * 65536),
    "chunks": endlessly(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n"),
    "a chunk line": endlessly(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 65536),
    "a trailer": endlessly(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: " + b"y" * 65536),
    "goes on": endlessly(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
}
DRIPS = {
    "body": endlessly(OK + b"\r\n", b"x", 0.05),
    "body of a length": endlessly(OK + b"Content-Length: 100000\r\n\r\n", b"x", 0.05),
    "chunks": endlessly(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.05),
    "headers": endlessly(OK, b"X: y\r\n", 0.05),
    "a header": endlessly(OK + b"X: ", b"y", 0.05),
    "status": endlessly(b"", b"H", 0.05),
    "gzip": endlessly(OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * 1000)[:10], b"\0", 0.05),
    "goes on": endlessly(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
}


@pytest.mark.parametrize("what", FLOODS)
def test_a_flood_is_cut_off_at_the_bound(hostile: Callable[[Behave], str], what: str) -> None:
    """Prevents a venue from filling the memory: 5.5 GB came within 10 s."""
    session = BoundedSession(max_bytes=MOST)
    tracemalloc.start()
    try:
        with pytest.raises((TooMuch, requests.exceptions.ChunkedEncodingError)):  # urllib3 bounds a chunk's line itself
            session.get(hostile(FLOODS[what]))
        assert tracemalloc.get_traced_memory()[1] < 8 * MOST
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", DRIPS)
def test_a_drip_does_not_outlast_the_deadline(hostile: Callable[[Behave], str], what: str) -> None:
    """Prevents a byte now and then from holding a request for hours. Without the deadline none of these ends."""
    with pytest.raises(TooLate):
        BoundedSession(whole_s=0.5).get(hostile(DRIPS[what]), timeout=(5, 15))


def test_a_bomb_is_not_unpacked(hostile: Callable[[Behave], str]) -> None:
    """Prevents 300 kB from becoming 300 MB."""
    url = hostile(once(with_body("gzip", BOMB)))
    tracemalloc.start()
    try:
        with pytest.raises(TooMuch):
            BoundedSession(max_bytes=len(BOMB) + 1000).get(url)
        assert tracemalloc.get_traced_memory()[1] < 20 * len(BOMB)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"".join(b"X%d: y\r\n" % n for n in range(200)) + b"\r\n",
        OK + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"\0" * 100,
        b"",
        with_body("gzip", gzip.compress(b"{}" * 1000)[:-9]),
        with_body("gzip", b"no gzip at all"),
        with_body("gzip, gzip", gzip.compress(gzip.compress(b"{}"))),
        with_body("br", b"{}"),
        OK + b"Content-Length: 100\r\n\r\n{}",
        OK + b"Transfer-Encoding: chunked\r\n\r\nnone\r\n{}",
    ],
    ids=["many headers", "huge header", "no HTTP", "nothing", "cut gzip", "no gzip", "twice", "br", "short", "chunks"],
)
def test_what_is_broken_is_an_error_of_requests(hostile: Callable[[Behave], str], answer: bytes) -> None:
    """Prevents an exception that nobody foresees from ending a producer, and half a body from being an answer."""
    with pytest.raises(requests.RequestException):
        BoundedSession().get(hostile(once(answer)))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(hostile: Callable[[Behave], str], status: int) -> None:
    """Prevents a venue from sending us to a service of this machine."""
    asked: list[bytes] = []
    inside = hostile(lambda peer: asked.append(b"!"))
    answer = f"HTTP/1.1 {status} Moved\r\nLocation: {inside}/\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    with pytest.raises(Redirected):
        BoundedSession().get(hostile(once(answer)))
    assert BoundedSession(redirects=True).get(hostile(once(answer))).status_code == status
    assert asked == []


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(b"whole" * 50_000)),
        ("gzip", gzip.compress(b"whole" * 20_000) + gzip.compress(b"whole" * 30_000) + bytes(8)),
        ("deflate", zlib.compress(b"whole" * 50_000)),
        ("deflate", zlib.compress(b"whole" * 50_000)[2:-4]),
        ("identity", b"whole" * 50_000),
        ("", b"whole" * 50_000),
    ],
    ids=["gzip", "gzip of two members", "deflate", "bare deflate", "identity", "none"],
)
def test_honest_answers_arrive_whole(hostile: Callable[[Behave], str], encoding: str, body: bytes) -> None:
    """Prevents the bounds from costing data."""
    got = BoundedSession().get(hostile(once(with_body(encoding, body))))
    assert got.content == b"whole" * 50_000


def test_a_connection_is_used_again(hostile: Callable[[Behave], str]) -> None:
    """Prevents a new connection (and a TLS handshake) for every page."""
    peers = []

    def behave(peer: socket.socket) -> None:
        peers.append(peer)
        while True:
            peer.sendall(with_body("", b"{}"))
            if not peer.recv(65536):
                return

    url, session = hostile(behave), BoundedSession(whole_s=5)
    assert [session.get(url).content for _ in range(3)] == [b"{}"] * 3
    assert len(peers) == 1


@pytest.mark.parametrize(
    ("behave", "error"), [(once(with_body("gzip", BOMB * 120)), WrongAnswer), (once(b""), Unavailable)]
)
def test_the_clients_of_venues_are_bounded(
    hostile: Callable[[Behave], str], tmp_path: object, behave: Behave, error: type[PipelineError]
) -> None:
    """Prevents a session without bounds from coming back into `venues.rest.client`."""
    client = Client("x", hostile(behave), threading.Event(), attempts=1)
    with pytest.raises(error):
        client.get("y", {}, RateLimit(tmp_path, "x", 100), lambda answer: answer)  # type: ignore[arg-type]


DENSE = [
    b"[" + b"[]," * 4_000_000 + b"1]",
    b"[" + b"{}," * 4_000_000 + b"1]",
    b"[" + (b"[" * 500 + b"]" * 500 + b",") * 12_000 + b"1]",
]


@pytest.mark.parametrize("body", DENSE, ids=["lists", "objects", "nested"])
def test_json_that_is_all_brackets_takes_little_memory(body: bytes) -> None:
    """Prevents: 30 MB of an answer that become a gigabyte of objects, in whoever repairs or loads, or asks ccxt."""
    of_ccxt = CcxtSource("kraken").api.on_json_response
    ways = (lambda: rest_result(body), lambda: elements_of(body, "trades"), lambda: of_ccxt(text))
    text = body.decode()
    for way in ways:
        tracemalloc.start()
        try:
            with pytest.raises(WrongAnswer, match="elements; the limit is"):
                way()
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()
