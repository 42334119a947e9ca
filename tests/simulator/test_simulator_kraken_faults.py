"""The faults of the simulated Kraken strike as often as asked, and leave the tape as it is."""

from __future__ import annotations

import asyncio
import json

import pytest

from simulator.testing import Simulator, running_simulator
from tests.kraken_client import collect, is_trade, subscribe
from tests.simulator_client import BUSY, connect, get


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
            trades = await collect(client, "BTC/USD", start + 900)
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
            trades = await collect(client, "BTC/USD", max(hole["last_id"], burst["before"] + 1500) + 100)
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
