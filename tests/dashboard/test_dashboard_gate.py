"""The gate of the page: foreign pages, foreign names, half-open and endless connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from aiohttp import web

from dashboard import gate
from dashboard.headers import HEADERS
from tests.dashboard_help import Client, answer, asked, get

QUESTIONS = {
    "page": (200, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    "file": (200, b"GET /static/js/app.js HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    "data": (200, b"GET /api/instruments HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    "wrong": (400, b"GET /api/candles HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    "stranger": (403, b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"),
    "nothing": (404, b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    "outside": (404, b"GET /static/../server.py HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    "zero byte": (404, b"GET /static/%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    "form": (405, b"POST /api/state HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
    "garbage": (400, b"GARBAGE\r\n\r\n"),
    "long": (400, b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"),
}


def test_every_answer_has_the_headers(port: int) -> None:
    """Prevents an answer, most easily an error, that a foreign page shows in a frame or takes for a script."""
    for name, (status, question) in QUESTIONS.items():
        head = answer(port, question).partition(b"\r\n\r\n")[0].decode()
        assert f" {status} " in head.splitlines()[0], name
        for header, value in HEADERS.items():
            assert f"{header}: {value}".lower() in head.lower(), f"{header} is missing: {name}"
    assert b"no-store" in get(port, "/api/instruments")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.", "localhost:x", "127.0.0.1.evil.example", "localhost:80@evil", "[::1", "0.0.0.0", ""],
)
def test_only_our_own_name_is_answered(in_env: Callable[..., None], host: str) -> None:
    """Prevents a page that points its own name here from reading what is here."""
    in_env()

    async def ask(client: Client) -> int:
        return (await client.get("/api/about", headers={"Host": host})).status

    assert asked(ask) == 403


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/api/about", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("/api/about", {"Sec-Fetch-Site": "same-site"}, 403),  # another port of this machine
        (
            "/api/about",
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
            403,
        ),
        ("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403),
        ("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
        ("/api/about", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("/api/about", {"Origin": "http://evil.example"}, 403),
        ("/api/about", {"Origin": "null"}, 403),
    ],
)
def test_a_page_elsewhere_cannot_make_us_work(
    in_env: Callable[..., None], path: str, headers: dict[str, str], status: int
) -> None:
    """Prevents costly questions, a thousand a second, by any page that is open in the same browser."""
    in_env()

    async def ask(client: Client) -> int:
        return (await client.get(path, headers={"Host": "localhost", **headers})).status

    assert asked(ask) == status


def test_half_open_requests_keep_nobody_out(port: int) -> None:
    """Prevents a page that cannot be opened, or a process without files, since somebody opened 300 connections."""
    with ExitStack() as stack:
        for _ in range(300):
            line = stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), 60)))
            line.sendall(b"GET / HTTP/1.1\r\nHost: local")
        assert b" 200 OK" in get(port, "/api/instruments")
        assert b" 200 OK" in get(port, "/")


def test_connections_are_bounded_and_end() -> None:
    """Prevents connections that stay for ever, whether nothing comes, or a byte now and then."""

    async def look() -> tuple[int, bool]:
        runner = web.AppRunner(web.Application())
        await runner.setup()
        assert runner.server is not None
        connections = gate.Connections(runner.server)
        server = await asyncio.get_running_loop().create_server(connections, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        lines = [await asyncio.open_connection(*address) for _ in range(gate.MOST + 20)]
        for reader, _ in lines[:20]:  # the oldest have made room
            await _ended(reader)
        most = len(connections.open)
        reader, writer = lines[-1]
        writer.write(b"GET / HTTP/1.1\r\nHost: local")
        ended = await _ended(reader)
        for _, one in lines:
            one.close()
        server.close()
        await runner.cleanup()
        return most, ended

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "MOST", 30)
        patch.setattr(gate, "IDLE_S", 2.0)
        most, ended = asyncio.run(look())
    assert most <= 30
    assert ended


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read(1) == b""
    except ConnectionResetError:
        return True


def test_memory_stays_flat(dashboard: tuple[int, int]) -> None:
    """Prevents a dashboard that grows with every question, connection or refused request."""
    pid, port = dashboard

    def rest() -> int:
        for _ in range(60):
            for path in (
                "/",
                "/api/instruments",
                "/api/candles?venue=kraken&product=BTC-USD",
                "/nothing",
                "/api/days?venue=kraken&product=BTC-USD&end=2020-01-01",
            ):
                get(port, path)
            answer(port, b"GARBAGE\r\n\r\n")
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    rest()
    before = rest()
    after = rest()
    assert after - before < 20_000  # kB; a body, page or connection that is kept would be more
