"""Events over HTTP: the same as `pipeline.stream`, for many clients at once, none of which costs the others much."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import selectors
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from pipeline.broker.client import Bus
from pipeline.core.runtime import now_us
from pipeline.core.times import us_to_iso
from tests.dashboard_help import Client, asked, save
from tests.messages import T0_US, trade
from tests.stream_help import PATIENCE_S, Venue

COUNT = 2_000  # some 800 kB: more than the system keeps for one that does not read
KRAKEN = {"venue": "kraken", "product": "BTC-USD"}


@pytest.fixture
def venue(bus: Bus, database_url: str) -> Venue:
    save(database_url, [trade(1)])
    made = Venue(bus)
    made.trades([trade(1)])
    return made


def path(**query: str) -> str:
    return "/api/events?" + urlencode(KRAKEN | query)


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Events as a browser's EventSource gives them."""
    found: dict[str, Any] = {}
    while line := (await asyncio.wait_for(response.content.readline(), PATIENCE_S)).decode().rstrip("\n"):
        found = dict([line.split(": ", 1)]) if line.startswith("id: ") else found | dict([line.split(": ", 1)])
        if line.startswith("data: "):
            assert await response.content.readline() == b"\n"
            yield {**found, "data": json.loads(found["data"])}
            found = {}
        elif line.startswith(":"):
            assert await response.content.readline() == b"\n"
            found = {}


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


async def ids(response: aiohttp.ClientResponse, count: int) -> tuple[list[int], str]:
    """Trade ids of the next events, and the last position."""
    found: list[int] = []
    last = ""
    async for event in events(response):
        found.append(event["data"]["trade_id"])
        last = event["id"]
        if len(found) == count:
            break
    return found, last


async def opened(client: Client, where: str, **headers: str) -> aiohttp.ClientResponse:
    """Connected, and told of what comes from now on."""
    response = await client.get(where, headers=headers)
    assert response.status == 200, await response.text()
    assert await response.content.readline() == b": welcome\n"
    assert await response.content.readline() == b"\n"
    return response


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


def test_every_candle_that_a_repair_changed_comes_again(venue: Venue, database_url: str) -> None:
    """Prevents a client whose closed candle stays wrong, because a repair changed two of them at once."""

    async def play(client: Client) -> list[Any]:
        response = await opened(client, path(kinds="candles_1m"))
        now = now_us()
        await asyncio.to_thread(venue.trades, [trade(9, at_us=now)])
        told = events(response)
        first = await anext(told)
        late = [trade(n, at_us=T0_US + n * 60_000_000, price="7") for n in (2, 3, 4)]
        await asyncio.to_thread(save, database_url, late)
        await asyncio.to_thread(venue.trades, late, origin="repair")
        found = [one["data"] async for one in first_closed(told, 3)]
        back = await opened(client, path(kinds="candles_1m", after=first["id"]))  # it had none of them
        again = [one["data"] async for one in first_closed(events(back), 3)]
        return [found, again]

    async def first_closed(told: AsyncIterator[dict[str, Any]], count: int) -> AsyncIterator[dict[str, Any]]:
        while count:
            one = await asyncio.wait_for(anext(told), PATIENCE_S)
            if one["data"]["closed"] and one["data"]["low"] == "7":
                yield one
                count -= 1

    found, again = asked(play)
    starts = [us_to_iso(T0_US + minute * 60_000_000) for minute in (2, 3, 4)]
    assert [one["start"] for one in found] == starts
    assert [one["start"] for one in again] == starts


def test_a_client_without_a_position_hears_nothing_old(venue: Venue) -> None:
    """Prevents days of old trades, given as what comes from now on, because somebody else reads them at the moment."""

    async def position(client: Client) -> str:
        response = await opened(client, path())
        await asyncio.to_thread(venue.trades, [trade(2)])
        return (await ids(response, 1))[1]

    kept = asked(position)
    for start in range(3, 4_003, 100):
        venue.send([trade(n) for n in range(start, start + 100)])
    venue.flush()

    async def play(client: Client) -> list[list[int]]:
        back = await opened(client, path(after=kept))
        new = await opened(client, path())
        await asyncio.to_thread(venue.trades, [trade(9_000)])
        return [(await ids(new, 1))[0], (await ids(back, 4_001))[0]]

    new, back = asked(play)
    assert new == [9_000]
    assert back == [*range(3, 4_003), 9_000]


def test_who_comes_back_from_long_ago_gets_everything_in_one_go(venue: Venue) -> None:
    """Prevents a client from being called too slow since the topic is read faster than anybody could take it."""

    async def position(client: Client) -> str:
        response = await opened(client, path())
        await asyncio.to_thread(venue.trades, [trade(2)])
        return (await ids(response, 1))[1]

    kept = asked(position)
    for start in range(3, 20_003, 100):
        venue.send([trade(n) for n in range(start, start + 100)])
    venue.flush()

    async def play(client: Client) -> list[int]:
        return (await ids(await opened(client, path(after=kept)), 20_000))[0]

    assert asked(play) == list(range(3, 20_003))


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
