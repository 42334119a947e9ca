"""The simulated Kraken must have the form of the recorded one, or the producer is tested on a fiction."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from simulator.kraken_rest import since_ns
from simulator.testing import Simulator, running_simulator
from simulator.times import rfc3339_us
from tests.simulator_client import RECORDINGS, Client, connect, get, recorded, shape

PAIRS = ["BTC/USD", "ETH/USD"]
SESSION = "kraken/ws_v2_trade_session.jsonl"
SINGLE = "kraken/ws_v2_frames_acks_refusals_ticker.jsonl"
BUSY = {"kraken": [{"symbol": "BTC/USD", "rate": 300.0}, {"symbol": "ETH/USD", "rate": 120.0}]}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(seed=11, products=BUSY, kraken_rest_rate=1000, kraken_rest_burst=1000) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_faults(simulator: Simulator) -> Iterator[None]:
    yield
    simulator.clear()


async def subscribe(client: Client, channel: str = "trade", pairs: list[str] = PAIRS, **params: Any) -> None:
    await client.send(method="subscribe", params={"channel": channel, "symbol": pairs, **params})


def is_trade(frame: Any) -> bool:
    return bool(frame.get("channel") == "trade" and frame["type"] == "update")


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


async def _collect(client: Client, pair: str, until_id: int) -> list[dict[str, Any]]:
    """All trades of a pair, in the order they came, until an id has passed."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["trade_id"] < until_id:
        frame = await client.receive()
        if frame.get("channel") == "trade":
            found += [trade for trade in frame["data"] if trade["symbol"] == pair]
    return found


def test_the_stream_is_the_tape(simulator: Simulator) -> None:
    """Snapshot and updates without a hole, every number equal to the truth: the ground of every judgement."""

    async def run() -> None:
        async with connect(simulator.environment()["KRAKEN_WS_URL"]) as client:
            await subscribe(client, snapshot=True)
            first = simulator.now()["kraken", "BTC-USD"]
            trades = await _collect(client, "BTC/USD", first + 1500)
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


def test_frame_faults_strike_and_the_tape_stays(simulator: Simulator) -> None:
    """Dropped, doubled and reordered frames must really happen, as often as asked, and nowhere else."""

    async def run() -> None:
        async with connect(simulator.environment()["KRAKEN_WS_URL"]) as client:
            await subscribe(client, pairs=["BTC/USD"])
            seen = (await client.until(is_trade))["data"][-1]["trade_id"]
            before = simulator.faults()["struck"]
            start = simulator.now()["kraken", "BTC-USD"]
            for kind in ("drop", "double", "reorder"):
                simulator.fault(kind, "kraken", count=2, endpoint="trade")
            trades = await _collect(client, "BTC/USD", start + 900)
            struck = simulator.faults()["struck"]
            for kind in ("drop", "double", "reorder"):
                assert struck[f"kraken/{kind}"] - before.get(f"kraken/{kind}", 0) == 2
            ids = [trade["trade_id"] for trade in trades]
            assert set(range(seen + 1, ids[-1])) - set(ids), "no frame was dropped"
            assert ids != sorted(ids), "no frame was reordered or doubled"

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["malformed", "truncated-frame"])
def test_broken_frames_are_no_json(simulator: Simulator, kind: str) -> None:
    async def run() -> None:
        async with connect(simulator.environment()["KRAKEN_WS_URL"]) as client:
            await subscribe(client, pairs=["BTC/USD"])
            await client.until(is_trade)
            simulator.fault(kind, "kraken", count=1)
            with pytest.raises(json.JSONDecodeError):
                await client.until(lambda frame: False)
            await client.until(is_trade)

    asyncio.run(run())


def test_cut_mute_and_maintenance(simulator: Simulator) -> None:
    url = simulator.environment()["KRAKEN_WS_URL"]

    async def run() -> None:
        async with connect(url) as client:
            await subscribe(client)
            await client.until(is_trade)
            simulator.fault("cut", "kraken", refuse_for=60)
            with pytest.raises(ConnectionError):
                await client.until(lambda frame: False)
        with pytest.raises(Exception, match="503"):
            async with connect(url):
                pass
        simulator.clear()
        simulator.fault("mute", "kraken", seconds=60)
        async with connect(url) as client:
            await subscribe(client)
            ack = await client.until(lambda frame: frame.get("method") == "subscribe")
            assert ack["success"]
            simulator.fault("maintenance", "kraken", seconds=60)
            status = await client.until(lambda frame: frame.get("channel") == "status" and len(client.texts) > 2)
            assert status["data"][0]["system"] == "maintenance"
            assert not any('"channel":"trade","type"' in text for text in client.texts)
            simulator.clear()
            await client.until(is_trade)

    asyncio.run(run())


def test_hole_and_burst_are_seen_by_stream_rest_and_truth_alike(simulator: Simulator) -> None:
    """A hole that one of the three still knew would be reported as a loss of the pipeline."""
    base = simulator.environment()["KRAKEN_REST_URL"]

    async def run() -> None:
        async with connect(simulator.environment()["KRAKEN_WS_URL"]) as client:
            await subscribe(client, pairs=["BTC/USD"])
            await client.until(is_trade)
            (hole,) = simulator.fault("hole", "kraken", count=5, products=["BTC-USD"])
            (burst,) = simulator.fault("burst", "kraken", count=1500, products=["BTC-USD"])
            trades = await _collect(client, "BTC/USD", max(hole["last_id"], burst["before"] + 1500) + 100)
            ids = [trade["trade_id"] for trade in trades]
            gone = set(range(hole["first_id"], hole["last_id"] + 1))
            assert set(range(ids[0], ids[-1] + 1)) - set(ids) == gone
            truth = simulator.truth("kraken", "BTC-USD", ids[0], ids[-1])
            assert [row["id"] for row in truth] == ids[: len(truth)]
            seconds = [row["ts_ns"] for row in truth if 0 <= row["ts_ns"] - burst["start_ns"] < 10**9]
            assert len(seconds) >= 1500
            _, text, _ = await get(f"{base}/Trades?pair=XBTUSD&since={truth[0]['ts_ns']}")
            rest = {row[6] for row in json.loads(text)["result"]["XXBTZUSD"]}
            assert not rest & gone
            own = simulator.tape("kraken", "BTC-USD").trades(ids[0], ids[-1])
            assert own.ids.tolist() == ids

    asyncio.run(run())


def test_rest_lag_hides_what_the_stream_has_shown(simulator: Simulator) -> None:
    base = simulator.environment()["KRAKEN_REST_URL"]
    simulator.fault("lag", "kraken", lag=30, seconds=60)
    known = simulator.now()["kraken", "BTC-USD"]
    newest = json.loads(asyncio.run(get(f"{base}/Trades?pair=XBTUSD&count=1"))[1])["result"]["XXBTZUSD"][-1]
    assert newest[6] < known
    assert newest[2] * 1e9 <= simulator.now_ns() - 29 * 10**9


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


def test_a_restarted_simulator_goes_on_with_the_same_tape() -> None:
    """A judge kills the venue, too; afterwards ids, edits and clock must be the same."""
    with running_simulator(seed=3, clock_offset_s=-3600) as running:
        (hole,) = running.fault("hole", "kraken", count=3, products=["BTC/USD"])
        first = running.now()["kraken", "BTC-USD"] - 200
        before = running.truth("kraken", "BTC-USD", first, first + 200)
        running.fault("clock", "kraken", jump=3600)
        jumped = running.now_ns()
        running.restart(kill=True)
        assert running.now_ns() >= jumped
        assert running.truth("kraken", "BTC-USD", first, first + len(before) - 1) == before
        ids = [row["id"] for row in running.truth("kraken", "BTC-USD", hole["first_id"] - 5, hole["last_id"] + 5)]
        assert not set(ids) & set(range(hole["first_id"], hole["last_id"] + 1))
        assert len(ids) == 10


def test_a_jump_of_the_clock_leaves_an_hour_that_only_rest_has() -> None:
    """So a test can let an hour of tape pass while a producer is away, without trades in the future."""
    with running_simulator(seed=3, clock_offset_s=-3600, products={"kraken": BUSY["kraken"]}) as running:

        async def run() -> tuple[int, int]:
            async with connect(running.environment()["KRAKEN_WS_URL"]) as client:
                await subscribe(client, pairs=["BTC/USD"])
                before = (await client.until(is_trade))["data"][-1]["trade_id"]
                running.fault("clock", "kraken", jump=3600)
                while True:
                    after = (await client.until(is_trade))["data"][0]["trade_id"]
                    if after > before + 1000:
                        return before, after

        before, after = asyncio.run(run())
        rows = running.truth("kraken", "BTC-USD", after - 1, after)
        assert rows[1]["ts_ns"] > running.now_ns() - 60 * 10**9
        assert rows[1]["ts_ns"] - running.truth("kraken", "BTC-USD", before, before)[0]["ts_ns"] > 3590 * 10**9
        url = running.environment()["KRAKEN_REST_URL"] + f"/Trades?pair=XBTUSD&since={rows[0]['ts_ns'] - 10**12}"
        assert len(json.loads(asyncio.run(get(url))[1])["result"]["XXBTZUSD"]) == 1000


def test_the_rest_limit_counts_per_pair() -> None:
    """Without the venue's limit nobody would notice a producer that asks too fast."""
    with running_simulator(seed=3) as running:
        base = running.environment()["KRAKEN_REST_URL"]

        async def ask() -> list[str]:
            return [(await get(f"{base}/Trades?pair={pair}&count=1"))[1] for pair in ["XBTUSD"] * 6 + ["ETHUSD"]]

        answers = asyncio.run(ask())
        refused = [index for index, text in enumerate(answers) if "EAPI:Rate limit exceeded" in text]
        assert refused
        assert refused[0] == 4
        assert 6 not in refused
        counted = running.stats()["venues"]["kraken"]["/kraken/0/public/Trades"]
        assert counted["requests"] == 7
        assert counted["violations"] == counted["refused"] == len(refused)
