"""The simulated Binance must have the form that the venue documents, or the producer is tested on a fiction."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import urllib.request
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from simulator.testing import Simulator, running_simulator
from tests.simulator_client import Client, connect, get, shape

BUSY = {"binance": [{"symbol": "BTCUSDT", "rate": 20.0}, {"symbol": "ETHUSDT", "rate": 0.2}]}
# As on developers.binance.com.
TRADE = {"e": "trade", "E": 1, "s": "BNBBTC", "t": 12345, "p": "0.001", "q": "100", "T": 1, "m": True, "M": True}
BOOK = {"u": 400900217, "s": "BNBUSDT", "b": "25.3519", "B": "31.21", "a": "25.3652", "A": "40.66"}
MINI = {"e": "24hrMiniTicker", "E": 1, "s": "BNBBTC", "c": "1", "o": "1", "h": "1", "l": "1", "v": "1", "q": "18"}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(
        seed=11, products=BUSY, binance_archive_holes={"ETHUSDT": [["2025-06-01T12:00", 60]]}
    ) as one:
        yield one


@pytest.fixture(autouse=True)
def _no_faults(simulator: Simulator) -> Iterator[None]:
    yield
    simulator.clear()


def test_frames_have_the_documented_form_and_are_the_tape(simulator: Simulator) -> None:
    """Every trade is a frame, in order and without a hole; bid below ask; a heartbeat each second."""

    async def run() -> None:
        async with connect(simulator.environment()["BINANCE_WS_URL"] + "?timeUnit=MICROSECOND") as client:
            names = ["btcusdt@trade", "btcusdt@bookTicker", "btcusdt@miniTicker"]
            await client.send(method="SUBSCRIBE", params=names, id=7)
            assert await client.receive() == {"result": None, "id": 7}
            frames = []
            while sum(frame.get("e") == "trade" for frame in frames) < 60:
                frames.append(await client.receive())
            trades = [frame for frame in frames if frame.get("e") == "trade"]
            (book, *_), (mini, *_) = ([f for f in frames if kind(f)] for kind in (is_book, is_mini))
            assert [shape(frame) for frame in (trades[0], book, mini)] == [shape(one) for one in (TRADE, BOOK, MINI)]
            assert float(book["b"]) < float(book["a"])
            ids = [trade["t"] for trade in trades]
            assert ids == list(range(ids[0], ids[0] + len(ids)))
            truth = simulator.truth("binance", "BTCUSDT", ids[0], ids[-1])
            told = [(t["T"], float(t["p"]), float(t["q"]), "sell" if t["m"] else "buy") for t in trades]
            real = [(t["ts_ns"] // 1000, float(t["price"]), float(t["quantity"]), t["taker_side"]) for t in truth]
            assert told[: len(real)] == real

    asyncio.run(run())


def is_book(frame: dict[str, Any]) -> bool:
    return "u" in frame


def is_mini(frame: dict[str, Any]) -> bool:
    return frame.get("e") == "24hrMiniTicker"


def test_any_symbol_is_acknowledged_and_milliseconds_are_the_default(simulator: Simulator) -> None:
    async def run() -> None:
        async with connect(simulator.environment()["BINANCE_WS_URL"]) as client:
            await client.send(method="SUBSCRIBE", params=["nopeusdt@trade"], id=1)
            assert await client.receive() == {"result": None, "id": 1}
            await client.send(method="SUBSCRIBE", params=["btcusdt@trade"], id=2)
            assert await client.receive() == {"result": None, "id": 2}
            assert 10**12 < (await client.receive())["T"] < 10**13
            await client.send(method="ORDER", id=3)
            refusal = await client.until(lambda frame: "code" in frame)
            assert (refusal["code"], refusal["id"]) == (2, 3)

    asyncio.run(run())


async def send_too_much(client: Client) -> None:
    """The end of the connection is seen while sending, or afterwards."""
    for number in range(10):
        await client.send(method="SUBSCRIBE", params=[], id=number)
    await client.until(lambda frame: False)


def test_who_sends_too_much_is_disconnected(simulator: Simulator) -> None:
    async def run() -> None:
        async with connect(simulator.environment()["BINANCE_WS_URL"]) as client:
            with pytest.raises(ConnectionError):
                await send_too_much(client)

    asyncio.run(run())


def test_a_goodbye_is_announced(simulator: Simulator) -> None:
    async def run() -> None:
        async with connect(simulator.environment()["BINANCE_WS_URL"]) as client:
            await client.send(method="SUBSCRIBE", params=["btcusdt@trade"], id=1)
            simulator.fault("goodbye", "binance", count=1, notice=0.2)
            assert shape(await client.until(lambda frame: frame.get("e") == "serverShutdown")) == [
                ("e", "str"),
                ("E", "int"),
            ]
            while (message := await client.socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            assert message.type is aiohttp.WSMsgType.CLOSE

    asyncio.run(run())


def test_rest_has_the_documented_form(simulator: Simulator) -> None:
    base = simulator.environment()["BINANCE_REST_URL"]

    async def ask(path: str) -> Any:
        status, text, _ = await get(f"{base}/{path}")
        return status, json.loads(text)

    async def run() -> None:
        _, (trade, *_) = await ask("historicalTrades?symbol=BTCUSDT&fromId=100&limit=2")
        assert trade["id"] == 100
        names = ["id", "price", "qty", "quoteQty", "time", "isBuyerMaker", "isBestMatch"]
        assert list(trade) == names
        _, aggregates = await ask("aggTrades?symbol=BTCUSDT&startTime=1735689600000&limit=5")
        assert list(aggregates[0]) == ["a", "p", "q", "f", "l", "T", "m", "M"]
        for one, following in pairwise(aggregates):
            assert following["f"] == one["l"] + 1  # their ranges are contiguous too
        assert await ask("trades?symbol=NOPE") == (400, {"code": -1121, "msg": "Invalid symbol."})
        status, _ = await ask('exchangeInfo?symbols=["BTCUSDT","NOPE"]')
        assert status == 400
        _, info = await ask('exchangeInfo?symbols=["BTCUSDT"]')
        assert [market["symbol"] for market in info["symbols"]] == ["BTCUSDT"]

    asyncio.run(run())


def test_a_day_of_the_archive_matches_its_checksum_and_has_its_hole(simulator: Simulator) -> None:
    url = (
        simulator.environment()["BINANCE_ARCHIVE_URL"] + "/data/spot/daily/trades/ETHUSDT/ETHUSDT-trades-2025-06-01.zip"
    )

    def fetch(address: str, **headers: str) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(address, headers=headers)) as answer:
            return bytes(answer.read())

    whole, checksum = fetch(url), fetch(f"{url}.CHECKSUM").decode()
    assert checksum == f"{hashlib.sha256(whole).hexdigest()}  ETHUSDT-trades-2025-06-01.zip\n"
    assert fetch(url, Range="bytes=100-199") == whole[100:200]
    with zipfile.ZipFile(io.BytesIO(whole)) as packed:
        assert packed.namelist() == ["ETHUSDT-trades-2025-06-01.csv"]
        rows = [line.split(b",") for line in packed.read(packed.namelist()[0]).splitlines()]
    assert {len(row) for row in rows} == {7}
    ids, times = [int(row[0]) for row in rows], [int(row[4]) for row in rows]
    assert 1_748_736_000_000_000 <= times[0] < times[-1] < 1_748_822_400_000_000
    (hole,) = [place for place in range(1, len(ids)) if ids[place] != ids[place - 1] + 1]
    assert times[hole] - times[hole - 1] >= 3_600_000_000
