"""Events over HTTP: the same as `pipeline.stream`, for many clients at once, none of which costs the others much."""

from __future__ import annotations

import asyncio
import contextlib
import re
import selectors
import socket
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.dashboard_help import Client, asked
from tests.events_help import KRAKEN, ids, opened, path
from tests.messages import T0_US, trade
from tests.stream_help import PATIENCE_S, Venue

COUNT = 2_000  # some 800 kB: more than the system keeps for one that does not read


def connect(client: Client, *, room: int | None = None) -> socket.socket:
    """A plain connection that has asked for trades; `room`: bytes that the system keeps for it."""
    line = socket.socket()
    if room is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    line.connect((client.host, client.port))
    line.sendall(f"GET {path()} HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n\r\n".encode())
    return line


class Readers:
    """Many plain connections, read by one thread."""

    def __init__(self, client: Client, count: int) -> None:
        self._ready = selectors.DefaultSelector()
        self._text: dict[Any, bytes] = {}
        self.ids: dict[Any, list[int]] = {}
        self._welcome: set[Any] = set()
        for _ in range(count):
            line = connect(client)
            self._text[line], self.ids[line] = b"", []
            self._ready.register(line, selectors.EVENT_READ)

    def until(self, count: int) -> None:
        """Read until every connection is welcome and has had so many trades."""
        waiting = {line for line in self._text if line not in self._welcome or len(self.ids[line]) < count}
        while waiting:
            ready = self._ready.select(PATIENCE_S)
            assert ready, f"{len(waiting)} connections do not go on"
            for key, _ in ready:
                line: Any = key.fileobj
                piece = line.recv(1 << 18)
                assert piece, "a connection was closed"
                whole, end, self._text[line] = (self._text[line] + piece).rpartition(b"\n")
                self.ids[line] += map(int, re.findall(rb'"trade_id":(\d+)', whole + end))
                if b": welcome" in whole:
                    self._welcome.add(line)
                if line in self._welcome and len(self.ids[line]) >= count:
                    waiting.discard(line)

    def close(self) -> None:
        for line in self._text:
            line.close()


def ended(line: socket.socket) -> int:
    """How many trades had been sent when the other side closed."""
    line.settimeout(PATIENCE_S)
    text = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := line.recv(65_536):
            text += piece
    line.close()
    return text.count(b"event: trades")


def test_two_hundred_clients_get_everything_and_a_slow_one_is_dropped(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a client that does not read from holding up the others, or from having events pile up for it."""
    monkeypatch.setattr("dashboard.events.hub.KEPT", 200)

    async def play(client: Client) -> tuple[list[list[int]], int, int]:
        slow = await asyncio.to_thread(connect, client, room=4096)
        readers = await asyncio.to_thread(Readers, client, 200)
        await asyncio.to_thread(readers.until, 0)
        for start in range(2, COUNT + 2, 100):
            await asyncio.to_thread(venue.trades, [trade(n, at_us=T0_US + n) for n in range(start, start + 100)])
            await asyncio.to_thread(readers.until, start + 98)
        about = await client.get("/api/about")
        sent = await asyncio.to_thread(ended, slow)
        readers.close()
        return [*readers.ids.values()], about.status, sent

    got, status, sent = asked(play)
    assert status == 200
    assert sent < COUNT, "the slow client was served to the end"
    assert all(one == list(range(2, COUNT + 2)) for one in got)


def test_a_client_that_comes_back_goes_on_behind_its_last_event(venue: Venue) -> None:
    """Prevents loss and doubles over a reconnect: within what is kept, and from long ago."""

    async def play(client: Client) -> list[list[int]]:
        first = await opened(client, path())
        await asyncio.to_thread(venue.trades, [trade(n) for n in range(2, 12)])
        one, position = await ids(first, 4)
        first.close()
        back = await opened(client, path(after="nonsense"), **{"Last-Event-ID": position})  # the header counts
        two, last = await ids(back, 6)
        back.close()
        await asyncio.to_thread(venue.trades, [trade(n) for n in range(8, 14)], origin="repair")
        again = await opened(client, path(after=last))
        three, _ = await ids(again, 2)
        again.close()
        return [one, two, three]

    assert asked(play) == [[2, 3, 4, 5], [6, 7, 8, 9, 10, 11], [12, 13]]

    async def later(client: Client) -> list[int]:  # another dashboard, which has kept nothing
        response = await opened(client, path(after=position))
        return (await ids(response, 3))[0]

    async def first_position(client: Client) -> str:
        response = await opened(client, path())
        await asyncio.to_thread(venue.trades, [trade(20), trade(21)])
        return (await ids(response, 1))[1]

    position = asked(first_position)
    venue.trades([trade(22), trade(23)])
    assert asked(later) == [21, 22, 23]


def test_a_websocket_gives_the_same(venue: Venue) -> None:
    """Prevents a second meaning of the same stream."""

    async def play(client: Client) -> list[Any]:
        where = "/api/socket?" + urlencode(KRAKEN | {"kinds": "trades,gaps,candles_1m"})
        async with client.ws_connect(where) as line:
            await asyncio.to_thread(venue.trades, [trade(2)])
            await asyncio.to_thread(venue.gap, first_id=3, last_id=4)
            found = {}
            while not {"trades", "gaps"} <= set(found):
                told = await asyncio.wait_for(line.receive_json(), PATIENCE_S)
                found[told["kind"]] = told
        async with client.ws_connect(where + "&" + urlencode({"after": told["position"]})) as line:
            await asyncio.to_thread(venue.trades, [trade(5)])
            told = {"kind": ""}
            while told["kind"] != "trades":  # the first trade's candle may come only now
                told = await asyncio.wait_for(line.receive_json(), PATIENCE_S)
        return [found["trades"]["data"], found["gaps"]["data"], told["data"]["trade_id"]]

    traded, gap, resumed = asked(play)
    assert (traded["trade_id"], traded["price"], traded["product_id"]) == (2, "100.5", "BTC-USD")
    assert (gap["event"], gap["first_id"], gap["last_id"]) == ("opened", 3, 4)
    assert resumed == 5
