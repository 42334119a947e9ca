"""A dashboard inside the test's process, or behind a port, and what it is asked."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import psycopg
from aiohttp.test_utils import TestClient, TestServer

from consumers.trades import Trades
from dashboard.server import Dashboard
from pipeline.broker.client import Bus
from pipeline.broker.topics import full_name
from pipeline.core.runtime import now_us
from pipeline.stream.instruments import Instrument
from tests.messages import received, store, trades_record
from venues.adapter import Proof

Client = TestClient[Any, Any]

KRAKEN = Instrument(1, "kraken", "BTC-USD", "crypto", "trades", Proof.IDS)


class Served:
    """A dashboard of this test, its address, and the bus to publish on."""

    def __init__(self, url: str, database_url: str, bus: Bus) -> None:
        self.url, self.database_url, self.bus = url, database_url, bus
        self._publishers: dict[str, Any] = {}

    def store(self, trades: list[Any]) -> None:
        """As the writer does."""
        with psycopg.connect(self.database_url, autocommit=True) as conn:
            store(Trades(), conn, [received("trades", trades_record(trades))])

    def publish(self, trades: list[Any]) -> None:
        """As a producer does. No writer runs here, so the database knows nothing of it."""
        if "trades" not in self._publishers:
            self._publishers["trades"] = self.bus.publisher("trades", "kraken", "BTC-USD", "trades", "test")
        self._publishers["trades"].send(trades_record(trades, received_at_us=now_us()))
        assert self._publishers["trades"].flush(30)

    def publish_to(self, namespace: str, local: str, schema: str, record: dict[str, Any]) -> None:
        topic = full_name(self.bus.settings.tenant, namespace, local)
        publisher = self.bus.publisher_to(topic, schema, "test")
        publisher.send(record)
        assert publisher.flush(30)


def save(database_url: str, trades: list[Any]) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        store(Trades(), conn, [received("trades", trades_record(trades))])


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
