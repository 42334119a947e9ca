"""The page against hostile neighbours: foreign pages, half-open connections, strangers' letters, a hanging database."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from cut_line import CutLine
from messages import T0_US, received, store, trade, trades_record

from consumers import letter_box
from consumers.trades import Trades
from dashboard import gate, shared
from dashboard.charts.feed import Feeds, Item, Link, Tick, items_of_trades
from dashboard.charts.live_candle import LiveCandles
from dashboard.charts.stream import ChartStream
from dashboard.headers import HEADERS
from dashboard.queries import Instrument
from dashboard.server import Dashboard
from dashboard.store import Store
from pipeline.broker.admin import Admin
from pipeline.broker.client import Bus
from pipeline.broker.topics import full_name
from pipeline.core.errors import Unavailable
from pipeline.core.runtime import now_us
from pipeline.core.settings import DatabaseSettings, PulsarSettings, load
from pipeline.core.timeframes import TIMEFRAMES
from schemas import encode

Client = TestClient[Any, Any]
KRAKEN = Instrument(1, "kraken", "BTC-USD", "crypto", "trades")


def save(database_url: str, trades: list[Any]) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        store(Trades(), conn, [received("trades", trades_record(trades))])


@pytest.fixture
def port(
    in_env: Callable[..., None], env: Callable[..., dict[str, str]], database_url: str, python: str
) -> Iterator[int]:
    """The port of a dashboard of this test, a process of its own with its gate."""
    in_env()
    save(database_url, [trade(n, at_us=T0_US + n) for n in (1, 2)])
    with subprocess.Popen([python, "-m", "dashboard"], env=env(), stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        started = next(line for line in child.stdout if '"process.started"' in line)
        yield urlsplit(json.loads(started)["url"]).port or 0
        child.terminate()
        assert child.wait(30) == 0


def asked(ask: Callable[[Client], Awaitable[Any]]) -> Any:
    """What `ask` returns, given a client of a dashboard inside this process."""

    async def run() -> Any:
        async with TestClient(TestServer(Dashboard().app)) as client:
            return await ask(client)

    return asyncio.run(run())


def answer(port: int, request: bytes) -> bytes:
    """All that comes until the connection is closed."""
    with closing(socket.create_connection(("127.0.0.1", port), 60)) as line:
        line.sendall(request)
        return b"".join(iter(lambda: line.recv(65536), b""))


def get(port: int, path: str, *headers: str, host: str = "localhost") -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    return answer(port, "\r\n".join([*lines, "", ""]).encode())


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


def test_a_browser_that_takes_nothing_is_dropped(
    in_env: Callable[..., None], database_url: str, stop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents events that pile up for a browser that sleeps."""
    monkeypatch.setattr("dashboard.charts.stream.TAKEN_WITHIN_S", 0.05)

    class Asleep:
        async def write(self, _data: bytes) -> None:
            await asyncio.Event().wait()

    async def play() -> None:
        reader, feeds = Store(load(DatabaseSettings)), Feeds(load(PulsarSettings))
        try:
            await ChartStream(reader, feeds, KRAKEN, TIMEFRAMES["1m"]).run(Asleep())  # type: ignore[arg-type]
        finally:
            await asyncio.to_thread(feeds.close)
            reader.close()

    with pytest.raises(ConnectionResetError):
        asyncio.run(play())


def test_listening_makes_no_topic(stop: Any) -> None:
    """Prevents topics of products that nobody streams, made by looking at their chart."""
    settings = load(PulsarSettings)

    async def play() -> None:
        feeds = Feeds(settings)
        told: asyncio.Queue[Item] = asyncio.Queue()

        def hear(items: Sequence[Item]) -> None:
            for item in items:
                told.put_nowait(item)

        leave = feeds.listen("tickers", "dukascopy", "EUR-USD", hear)
        for _ in range(2):  # the first says how it is now, the second comes from the thread that looked
            assert await told.get() == Link(False)
        leave()
        await asyncio.to_thread(feeds.close)

    asyncio.run(play())
    assert Admin(settings).topics(f"{settings.tenant}/tickers") == []


HOSTILE = {
    "nesting": b"[" * 60_000 + b"]" * 60_000,
    "surrogate": b'{"a":"\\ud800"}',
    "wide": b'{"a":%d}' % 2**70,
    "digits": b"9" * 50_000,
    "infinite": b"[1e999,NaN]",
    "escape": b'"\x1b[2J"',
    "markup": b"<script>alert(1)</script>",
    "bytes": bytes(range(256)),
    "empty": b"",
    "long": b"x" * 3_000_000,
}


def letter(payload: bytes, **fields: Any) -> dict[str, Any]:
    return {
        "source": "trades-writer",
        "topic": "persistent://t/trades/kraken.btc-usd",
        "message_id": "(1,2,-1,0)",
        "row": 3,
        "reason": "price",
        "detail": "zero",
        "at_us": now_us(),
        "payload": payload,
        **fields,
    }


def test_any_letter_is_shown(stop: Any, bus: Bus) -> None:
    """Prevents one letter that hides all others, or a payload of some MB in every answer."""
    publisher = bus.publisher_to(full_name(bus.settings.tenant, "dead-letters", "trades-writer"), "dead_letter", "test")
    for name, payload in HOSTILE.items():
        publisher.send(letter(payload, reason=name))
    publisher.send(letter(b"{}", reason="late", at_us=2**63 - 1))
    publisher.send(letter(b"{}", reason="early", at_us=-(2**63), detail="\x1b[2J" + "d" * 100_000, topic="../x\x00"))
    publisher.send(letter(b'{"id": 9007199254740993}', reason="exact"))
    assert publisher.flush(60)

    async def ask(client: Client) -> tuple[dict[str, Any], int]:
        response = await client.get("/api/dead-letters", headers={"Host": "localhost"})
        assert response.status == 200
        return await response.json(), len(await response.read())

    found, size = asked(ask)
    assert {one["reason"] for one in found["letters"]} == {*HOSTILE, "late", "early", "exact"}
    assert size < 100_000
    for one in found["letters"]:
        assert "\x1b" not in json.dumps(one, ensure_ascii=False)
        assert 0 <= one["at_us"] <= 2**53
    assert next(one for one in found["letters"] if one["reason"] == "exact")["text"].count("9007199254740993") == 1


def test_only_the_newest_letters_are_read(stop: Any, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents the page from reading all letters of a week every three seconds, once for each page."""
    read: list[int] = []
    tries: list[int] = []
    original = letter_box.read

    def counted(*arguments: Any, **more: Any) -> Any:
        found = original(*arguments, **more)
        read.append(len(found))
        return found

    monkeypatch.setattr(letter_box, "read", counted)
    monkeypatch.setattr(shared, "KEPT_S", -1.0)
    publisher = bus.publisher_to(full_name(bus.settings.tenant, "dead-letters", "trades-writer"), "dead_letter", "test")
    for number in range(5_000):
        publisher.send(letter(b'{"n": %d}' % number))
    assert publisher.flush(60)

    async def ask(client: Client) -> dict[str, Any]:
        for _ in range(5):
            response = await client.get("/api/dead-letters", headers={"Host": "localhost"})
            tries.append(len(read))
        found: dict[str, Any] = await response.json()
        return found

    found = asked(ask)
    assert [one["payload"]["n"] for one in found["letters"]] == list(range(4_999, 4_899, -1))
    assert found["total"] >= 5_000
    assert max(read) <= letter_box.NEWEST
    assert set(tries) == {tries[0]}  # not again at the later questions, since nothing was added


@pytest.mark.parametrize(
    "fields",
    [
        {"at_us": 2**62},
        {"at_us": -1},
        {"price": "1E+999999"},
        {"price": "NaN"},
        {"quantity": "-1"},
        {"price": "1" * 99},
    ],
)
def test_what_no_writer_stores_is_not_drawn(fields: dict[str, Any]) -> None:
    """Prevents a hostile message that ends the chart, or moves it into another century."""
    record = trades_record([trade(1, **{"at_us": now_us(), **fields}), trade(2, at_us=now_us())])
    assert [one.order for one in items_of_trades(encode("trades", record)) if isinstance(one, Tick)] == [2]


def test_ticks_do_not_pile_up_while_the_database_is_away(
    in_env: Callable[..., None], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents memory and time that grow with every trade while the database is away, and a wrong candle afterwards."""
    in_env()
    monkeypatch.setattr("dashboard.charts.live_candle.MOST", 50)
    trades = [trade(n, at_us=T0_US + n * 1000, price=f"{100 + n % 7}.10") for n in range(1, 201)]
    bucket = T0_US // 60_000_000 * 60_000_000

    def tick(one: Any) -> Tick:
        price, size = Decimal(one["price"]), Decimal(one["quantity"])
        return Tick(one["timestamp_us"], one["trade_id"], price, size, T0_US, time.monotonic())

    async def play() -> tuple[Any, Any, Any]:
        reader = Store(load(DatabaseSettings))
        live = LiveCandles(reader, KRAKEN, TIMEFRAMES["1m"])
        save(database_url, trades[:1])
        await live.sync()
        for one in trades:  # the database is asked for nothing meanwhile
            live.add(tick(one))
            assert live._count <= 50
        away = live.row(bucket)
        save(database_url, trades[:150])
        await live.sync()
        behind = live.row(bucket)
        save(database_url, trades)
        await live.sync()
        well = live.row(bucket)
        reader.close()
        return away, behind, well

    away, behind, well = asyncio.run(play())
    assert away is None
    assert behind is None or behind[-1] == 200
    assert well[-1] == 200


def test_a_frozen_database_is_said_and_costs_nothing(
    in_env: Callable[..., None], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents questions that wait for minutes, and threads that all hang in the same silence."""
    monkeypatch.setattr("dashboard.store.ANSWER_WITHIN_S", 0.5)
    monkeypatch.setattr("dashboard.store.AWAY_S", 0.2)
    address = urlsplit(database_url)
    line = CutLine((address.hostname or "", address.port or 0))
    in_env(DATABASE_URL=database_url.replace(f":{address.port}/", f":{line.port}/"))

    async def play() -> None:
        reader = Store(load(DatabaseSettings))
        while await reader.probe() is not None:
            pass
        for hurt in (line.freeze, line.cut):
            hurt()
            refused = await asyncio.gather(*(reader.rows(dict, "SELECT 1") for _ in range(100)), return_exceptions=True)
            assert {type(one) for one in refused} == {Unavailable}
            line.mend()
            while await reader.probe() is not None:
                await asyncio.sleep(0.01)
        assert await reader.rows(dict, "SELECT 2 AS n") == [{"n": 2}]
        reader.close()

    asyncio.run(play())
    line.close()


def test_the_stop_does_not_wait_for_a_frozen_database(
    env: Callable[..., dict[str, str]], database_url: str, python: str
) -> None:
    """Prevents a dashboard that has to be killed, with its supervisor waiting."""
    address = urlsplit(database_url)
    line = CutLine((address.hostname or "", address.port or 0))
    line.freeze()
    there = env(DATABASE_URL=database_url.replace(f":{address.port}/", f":{line.port}/"))
    with subprocess.Popen([python, "-m", "dashboard"], env=there, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        next(text for text in child.stdout if '"process.started"' in text)
        child.terminate()
        assert child.wait(60) == 0
    line.close()


def test_memory_stays_flat(port: int) -> None:
    """Prevents a dashboard that grows with every question, connection or refused request."""
    pid = _owner(port)

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


def _owner(port: int) -> int:
    """The child of this process that listens."""
    inode = next(
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    )
    for child in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for pid in child.read_text().split():
            for file in Path(f"/proc/{pid}/fd").iterdir():
                if str(file.readlink()) == f"socket:[{inode}]":
                    return int(pid)
    raise AssertionError("nobody listens")
