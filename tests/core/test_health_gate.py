"""Other accounts and pages at the ports of `/health` and `/metrics`.

Prevents: a program that is killed as silent, or cannot open its next file or connection, because somebody holds a
thousand connections to it; and a page elsewhere that reads them under a name of its own.
"""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
import requests

from pipeline.core import health
from pipeline.core.health import MOST, HealthServer
from pipeline.services.processes import wait_until


@pytest.fixture
def server() -> Iterator[HealthServer]:
    made = HealthServer("test", 0, lambda: (True, {}))
    yield made
    made.close()


def _threads() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("said", [b"", b"GET /health HTTP/1.1\r\nX: ", b"GET /metrics HTTP/1.0\r\n\r\n"])
def test_a_thousand_connections_leave_it_answering(server: HealthServer, said: bytes) -> None:
    many = 1_000
    held = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(held[0], 4 * many), held[1]))
    peers = []
    try:
        for _ in range(many):
            peers.append(socket.create_connection(("127.0.0.1", server.port)))
            peers[-1].sendall(said)
        answer = requests.get(f"http://127.0.0.1:{server.port}/health", timeout=10)
        assert answer.json()["ok"]
        assert wait_until(lambda: _threads() <= MOST, 10)
    finally:
        for peer in peers:
            peer.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, held)


@pytest.mark.parametrize("piece", [b"x", b"GET / HTTP/1.1\r\n", b"X: y\r\n" * 1000])
def test_a_request_without_an_end_ends(server: HealthServer, monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    """Prevents a thread for ever, and memory of megabytes, for headers that drip or flood."""
    monkeypatch.setattr(health, "REQUEST_S", 0.3)
    with socket.create_connection(("127.0.0.1", server.port)) as peer:
        peer.sendall(piece)
        peer.settimeout(10)
        with suppress(OSError):  # reset or broken, as the system likes
            while peer.recv(1):
                peer.sendall(piece)
    assert wait_until(lambda: not _threads(), 10)


@pytest.mark.parametrize("path", ["/health", "/metrics"])
def test_a_page_with_a_name_of_its_own_reads_nothing(server: HealthServer, path: str) -> None:
    """DNS rebinding: to the browser the page and this port are one site."""
    address = f"http://127.0.0.1:{server.port}{path}"
    for name in ("evil.example", f"evil.example:{server.port}", "127.0.0.1.evil.example", "", "localhost,evil.example"):
        answer = requests.get(address, headers={"Host": name}, timeout=5)
        assert (answer.status_code, answer.text) == (403, "ask for 127.0.0.1 or localhost\n")
    for name in ("localhost", f"127.0.0.1:{server.port}", "[::1]:80", "LOCALHOST"):
        assert requests.get(address, headers={"Host": name}, timeout=5).status_code == 200


def test_inside_a_container_every_name_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a scraper from being refused that comes by the name of a service."""
    monkeypatch.setenv("METRICS_HOST", "0.0.0.0")
    server = HealthServer("test", 0, lambda: (True, {}))
    try:
        named = {"Host": "trades-writer:9101"}
        assert requests.get(f"http://127.0.0.1:{server.port}/health", headers=named, timeout=5).status_code == 200
    finally:
        server.close()


def test_what_people_type_is_answered(server: HealthServer) -> None:
    """Prevents a bound that refuses a plain request, such as one without `Host` or with bare line ends."""
    for text in (b"GET /health HTTP/1.0\r\n\r\n", b"GET /health HTTP/1.0\n\n"):
        with socket.create_connection(("127.0.0.1", server.port)) as peer:
            peer.sendall(text)
            peer.settimeout(10)
            assert peer.recv(100).startswith(b"HTTP/1.0 200 OK")
