"""The simulator's Bitstamp answers as the venue's documents show, and its two ways tell the same trades."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from simulator.testing import Simulator, running_simulator
from tests.simulator_client import Client, connect, get, shape

DOCUMENTED = {
    "data": {
        "id": 212337562,
        "timestamp": "1643643584",
        "amount": 0.0028,
        "amount_str": "0.00280000",
        "price": 38416.0,
        "price_str": "38416",
        "type": 0,
        "microtimestamp": "1643643584587000",
        "buy_order_id": 1452639291506688,
        "sell_order_id": 1452639287750657,
    },
    "channel": "live_trades_btcusd",
    "event": "trade",
}


@pytest.fixture(scope="module")
def simulator() -> Any:
    with running_simulator(seed=3, products={"bitstamp": [{"symbol": "BTCUSD", "rate": 50.0}]}) as started:
        yield started


async def _subscribed(client: Client, *channels: str) -> None:
    for channel in channels:
        await client.send(event="bts:subscribe", data={"channel": channel})
        await client.until(lambda frame, name=channel: frame["event"].startswith("bts:") and frame["channel"] == name)


async def _trades(simulator: Simulator, count: int) -> list[Any]:
    async with connect(simulator.environment()["BITSTAMP_WS_URL"]) as client:
        await _subscribed(client, "live_trades_btcusd")
        return [await client.until(lambda frame: frame["event"] == "trade") for _ in range(count)]


def test_a_frame_has_the_documented_shape_and_rest_tells_the_same(simulator: Simulator) -> None:
    """Prevents tests against a venue that there is not, and two ways that only the simulator tells alike."""
    trades = asyncio.run(_trades(simulator, 20))
    for trade in trades:
        assert sorted(map(str, shape(trade["data"]))) == sorted(map(str, shape(DOCUMENTED["data"])))
        assert trade.keys() == DOCUMENTED.keys()
    status, text, headers = asyncio.run(
        get(f"{simulator.environment()['BITSTAMP_REST_URL']}/transactions/btcusd/?time=minute")
    )
    assert (status, "Date" in headers) == (200, True)
    rows = {row["tid"]: row for row in json.loads(text)}
    for data in (trade["data"] for trade in trades):
        row = rows[str(data["id"])]
        assert row["date"] == data["timestamp"] == data["microtimestamp"][:10]
        told = (row["price"], row["amount"], row["type"])
        assert told == (data["price_str"], data["amount_str"], str(data["type"]))
    ids = [trade["data"]["id"] for trade in trades]
    assert ids == sorted(ids)
    assert ids[-1] - ids[0] > len(ids)  # not contiguous
    on_tape = [simulator.numbering("bitstamp", "BTC-USD").tape_id(number) for number in ids]
    first, last = on_tape[0], on_tape[-1]
    assert first is not None
    assert last is not None
    assert [row["id"] for row in simulator.truth("bitstamp", "BTC-USD", first, last)] == on_tape


async def _answers(simulator: Simulator) -> list[Any]:
    async with connect(simulator.environment()["BITSTAMP_WS_URL"]) as client:
        answers = []
        for event, channel in (
            ("bts:heartbeat", ""),
            ("bts:subscribe", "live_trades_nope"),
            ("bts:subscribe", "order_book_btcusd"),
            ("bts:unsubscribe", "order_book_btcusd"),
        ):
            await client.send(event=event, data={"channel": channel})
            answers.append((await client.until(lambda frame: frame["event"] != "data"))["event"])
        simulator.fault("goodbye", "bitstamp", count=1)
        answers.append((await client.until(lambda frame: frame["event"] != "data"))["event"])
        return answers


def test_what_is_said_of_the_connection(simulator: Simulator) -> None:
    assert asyncio.run(_answers(simulator)) == [
        "bts:heartbeat",
        "bts:error",
        "bts:subscription_succeeded",
        "bts:unsubscription_succeeded",
        "bts:request_reconnect",
    ]


@pytest.mark.parametrize(
    ("path", "status"), [("transactions/nope/", 404), ("transactions/btcusd/?time=year", 400), ("ticker/btcusd/", 200)]
)
def test_rest_refuses_what_there_is_not(path: str, status: int, simulator: Simulator) -> None:
    assert asyncio.run(get(f"{simulator.environment()['BITSTAMP_REST_URL']}/{path}"))[0] == status
