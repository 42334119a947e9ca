"""The simulated Kraken must have the form of the recorded one, or the producer is tested on a fiction."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal

from simulator.testing import Simulator
from simulator.times import rfc3339_us
from simulator.venues.kraken.rest import since_ns
from tests.kraken_client import collect, is_trade, subscribe
from tests.simulator_client import RECORDINGS, connect, get, recorded, shape

SESSION = "kraken/ws_v2_trade_session.jsonl"

SINGLE = "kraken/ws_v2_frames_acks_refusals_ticker.jsonl"


def test_trade_frames_have_the_recorded_form(simulator: Simulator) -> None:
    """Names, order and types of status, acknowledgement, snapshot, update."""

    async def run() -> None:
        async with connect(simulator.environment()["KRAKEN_WS_URL"]) as client:
            frames = [await client.receive()]
            await subscribe(client, snapshot=True)
            frames += [await client.receive() for _ in range(4)]
            frames.append(await client.until(is_trade))
            theirs = recorded(SESSION)
            update = next(frame for frame in theirs if is_trade(frame))
            assert [shape(frame) for frame in frames] == [shape(frame) for frame in [*theirs[:5], update]]
            assert [len(frame["data"]) for frame in frames[3:5]] == [50, 50]
            # Numbers are written with the pair's decimals, zeros included.
            price, quantity = (client.texts[3].split(f'"{name}":')[1].split(",")[0] for name in ("price", "qty"))
            assert len(price.split(".")[1]) == 1
            assert len(quantity.split(".")[1]) == 8

    asyncio.run(run())


def test_refusals_ticker_and_ohlc_have_the_recorded_form(simulator: Simulator) -> None:
    async def run() -> None:
        async with connect(simulator.environment()["KRAKEN_WS_URL"]) as client:
            single = {(f.get("channel") or f.get("error", "")[:20]): f for f in recorded(SINGLE)}
            await subscribe(client, pairs=["XBT/USD"])
            refusal = await client.until(lambda frame: frame.get("success") is False)
            assert shape(refusal) == shape(single["Currency pair not su"])
            assert refusal["error"] == "Currency pair not supported XBT/USD"
            await client.send(method="subscribe", params={"channel": "executions"})
            private = await client.until(lambda frame: frame.get("success") is False)
            assert private["error"] == single["Private data and tra"]["error"]
            assert "symbol" not in private
            await subscribe(client, "ticker", ["BTC/USD"])
            ticker = await client.until(lambda frame: frame.get("channel") == "ticker")
            assert ticker["type"] == "snapshot"
            ticker = await client.until(lambda frame: frame.get("channel") == "ticker")
            assert shape(ticker) == shape(single["ticker"])
            assert ticker["data"][0]["bid"] < ticker["data"][0]["ask"]
            theirs = recorded("kraken/ws_v2_ohlc.jsonl")
            await subscribe(client, "ohlc", ["BTC/USD"], interval=1)
            ack = await client.until(lambda frame: frame.get("method") == "subscribe")
            snapshot = await client.until(lambda frame: frame.get("channel") == "ohlc")
            update = await client.until(lambda frame: frame.get("channel") == "ohlc")
            assert [shape(f) for f in (ack, snapshot, update)] == [shape(theirs[n]) for n in (1, 4, 5)]

    asyncio.run(run())


def test_heartbeat_ping_and_double_subscription(simulator: Simulator) -> None:
    """A heartbeat per idle second, also while the data is silent; a pong carries the request's number."""

    async def run() -> None:
        async with connect(simulator.environment()["KRAKEN_WS_URL"]) as client:
            await subscribe(client)
            await client.until(is_trade)
            simulator.fault("silence", "kraken", seconds=60)
            await client.send(method="ping", req_id=42)
            pong = await client.until(lambda frame: "method" in frame)
            assert (pong["method"], pong["req_id"]) == ("pong", 42)
            assert await client.until(lambda frame: "channel" in frame) == {"channel": "heartbeat"}
            simulator.clear()
            await client.until(is_trade)
            await subscribe(client, pairs=["BTC/USD"])
            again = await client.until(lambda frame: frame.get("success") is False)
            assert again["error"] == "Already subscribed"

    asyncio.run(run())


def test_the_stream_is_the_tape(simulator: Simulator) -> None:
    """Snapshot and updates without a hole, every number equal to the truth: the ground of every judgement."""

    async def run() -> None:
        async with connect(simulator.environment()["KRAKEN_WS_URL"]) as client:
            await subscribe(client, snapshot=True)
            first = simulator.now()["kraken", "BTC-USD"]
            trades = await collect(client, "BTC/USD", first + 1500)
            ids = [trade["trade_id"] for trade in trades]
            assert ids == list(range(ids[0], ids[0] + len(ids)))
            truth = simulator.truth("kraken", "BTC-USD", ids[0], ids[-1])
            theirs = [(t["trade_id"], t["price"], t["qty"], t["side"], t["timestamp"]) for t in trades[: len(truth)]]
            ours = [
                (t["id"], Decimal(t["price"]), Decimal(t["quantity"]), t["taker_side"], rfc3339_us(t["ts_ns"]))
                for t in truth
            ]
            assert theirs == ours

    asyncio.run(run())


def test_rest_pages_have_the_recorded_form_and_are_the_tape(simulator: Simulator) -> None:
    """Paging by `last` must visit every trade: the producer's history stands on it."""
    url = simulator.environment()["KRAKEN_REST_URL"] + "/Trades?pair=XBTUSD"
    page = json.loads((RECORDINGS / "kraken" / "rest_Trades_XBTUSDT.json").read_text())
    since, rows = simulator.now_ns() - 20 * 10**9, []
    for _ in range(4):
        status, text, _ = asyncio.run(get(f"{url}&since={since}&count=1000"))
        answer = json.loads(text)
        assert status == 200
        assert list(answer["result"]) == ["XXBTZUSD", "last"]
        assert shape(list(answer["result"].values())) == shape(list(page["result"].values()))
        assert [type(x) for x in answer["result"]["XXBTZUSD"][0]] == [type(x) for x in page["result"]["XBTUSDT"][0]]
        rows += answer["result"]["XXBTZUSD"]
        since = int(answer["result"]["last"])
    truth = simulator.truth("kraken", "BTC-USD", rows[0][6], rows[-1][6])
    # A page may end between trades of one nanosecond: then ids are missing, and only there.
    known = {row[6]: row for row in rows}
    stamps = {row["ts_ns"] for row in truth if row["id"] not in known}
    assert stamps <= {row["ts_ns"] for row in truth if row["id"] in known}
    for row in truth:
        if row["id"] in known:
            price, volume, time_s, side, _, _, _ = known[row["id"]]
            assert (Decimal(price), Decimal(volume)) == (Decimal(row["price"]), Decimal(row["quantity"]))
            assert time_s == row["ts_ns"] / 1e9
            assert side == row["taker_side"][0]


def test_rest_answers_errors_in_the_envelope(simulator: Simulator) -> None:
    base = simulator.environment()["KRAKEN_REST_URL"]
    pairs = json.loads(asyncio.run(get(f"{base}/AssetPairs?pair=BTC/USD"))[1])["result"]
    example = json.loads((RECORDINGS / "kraken" / "rest_AssetPairs_one.json").read_text())["result"]["XBTUSDT"]
    assert list(pairs) == ["XXBTZUSD"]
    assert list(pairs["XXBTZUSD"]) == list(example)
    assert pairs["XXBTZUSD"]["wsname"] == "XBT/USD"
    for query, error in (("pair=NOPE", "EQuery:Unknown asset pair"), ("pair=XBTUSD&since=x", "EGeneral:Invalid")):
        status, text, _ = asyncio.run(get(f"{base}/Trades?{query}"))
        assert status == 200
        assert json.loads(text)["error"][0].startswith(error)
    assert since_ns("1762820035982277754") == 1762820035982277754
    assert since_ns("1762820035") == 1762820035 * 10**9


def test_the_recorded_session_is_replayed_byte_by_byte(simulator: Simulator) -> None:
    async def run() -> None:
        lines = (RECORDINGS / SESSION).read_text().splitlines()
        async with connect(simulator.replay_url("kraken")) as client:
            await client.receive()
            await subscribe(client, snapshot=True)
            for _ in lines[1:]:
                await client.receive()
            assert client.texts == lines

    asyncio.run(run())
