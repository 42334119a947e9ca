"""Binance's own: the connection that ends after a day, symbols that do not exist, and an archive that is not whole."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from judge.venue_check import points
from pipeline.core.settings import PROJECT
from simulator.testing import Simulator, running_simulator
from tests.simulator_client import connect
from tests.venue_help import Running, published, query, running, stored_ids, until
from venues.registry import adapters

Env = Callable[..., dict[str, str]]
HOLES = {"BTCUSDT": [["2024-12-31T06:00", 608]]}
LIVE = '{origin="live",product="BTC-USD",venue="binance"}'
PRODUCTS = {
    "binance": [
        {"symbol": "BTCUSDT", "rate": 0.5},
        {"symbol": "BTCUSD", "rate": 8.0},
        {"symbol": "SOLUSD", "rate": 0.001},
    ]
}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(seed=17, products=PRODUCTS, binance_archive_holes=HOLES) as started:
        yield started


@pytest.fixture
def binance(env: Env, simulator: Simulator) -> dict[str, str]:
    return env(
        **simulator.environment(),
        BINANCE_ENABLED="true",
        BINANCE_PRODUCT_IDS="BTC-USD",
        BINANCE_QUIET_SECONDS=1,
        BINANCE_REST_RATE=15,
        GAP_FILLER_CONFIRM_SECONDS=3,
    )


def trade_ids(env: dict[str, str], product: str = "btc-usd") -> list[int]:
    records = published(env, "trades", "trades", f"binance.{product}")
    return sorted({row["trade_id"] for record in records for row in record["trades"]})


def _states(program: Running) -> dict[str, str]:
    return {product: one["state"] for product, one in program.health()[1]["products"].items()}


def test_the_end_of_a_connection_after_a_day_leaves_no_gap(
    binance: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    """What was traded meanwhile would be missing until the gap filler comes, each day again."""
    with running("producers.binance", binance, tmp_path) as program:
        program.wait_for("connection.status", status="subscribed")
        until("live trades", lambda: program.metric("trades_received_total", LIVE) > 20)
        simulator.fault("goodbye", "binance", count=1, notice=0.5)
        program.wait_for("venue.notice", text="the venue will end this connection soon")
        program.wait_for("connection.status", status="closed")
        ended = simulator.now()["binance", "BTC-USD"]
        until("trades after it", lambda: trade_ids(binance)[-1] > ended + 50)
        states = [line["status"] for line in program.lines("connection.status")]
        assert states.count("open") == 2
        ids = trade_ids(binance)
        assert ids == list(range(ids[0], ids[-1] + 1))  # by the producer alone: no gap filler runs
        assert program.health()[0] == 200
        assert program.end() == 0


def test_a_symbol_that_is_not_listed_is_refused_by_name_and_a_quiet_one_is_well(
    binance: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    """The venue acknowledges any symbol, and a product that trades twice an hour shows nothing at first."""
    settings = binance | {"BINANCE_PRODUCT_IDS": "BTC-USD,NOPE-USDT,BTCU-SDT,SOL-USD"}
    with running("producers.binance", settings, tmp_path) as program:
        line = program.wait_for("connection.symbol_refused", product="NOPE-USDT")
        assert line["reason"] == "Binance lists no NOPEUSDT"
        line = program.wait_for("connection.symbol_refused", product="BTCU-SDT")
        assert line["reason"] == "Binance's BTCUSDT is BTC-USDT; ask for BTC-USDT instead"
        program.wait_for("connection.status", status="subscribed", products=["BTC-USD", "SOL-USD"])
        program.wait_for("connection.unasked", product="BTC-USDT")
        until("the newest trade of each", lambda: _states(program)["SOL-USD"] != "silent")
        status, health = program.health()
        assert status == 200, health
        states = _states(program)
        assert states.pop("SOL-USD") in ("live", "quiet")
        assert states == {"BTC-USD": "live", "NOPE-USDT": "refused", "BTCU-SDT": "refused"}
        assert not program.lines("product.stale")
        assert program.end() == 0
    assert trade_ids(binance, "btcu-sdt") == []  # they are those of another product


def test_a_load_from_an_archive_with_a_hole_is_complete(
    binance: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    """The archive's 608 missing minutes would pass for a quiet morning."""
    span = ("--products", "BTC-USDT", "--from", "2024-12-31T04:00", "--to", "2025-01-01T12:00")
    command = [sys.executable, "-m", "producers.binance", "--historical", *span]
    guess = subprocess.run(
        [*command, "--dry-run"], env=binance, cwd=PROJECT, capture_output=True, text=True, timeout=300
    )
    assert " from 2 files of the public archive (" in guess.stdout
    with running("consumers.trades", binance, tmp_path):
        done = subprocess.run(command, env=binance, cwd=PROJECT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr + done.stdout[-2000:]
        ids = stored_ids(binance, "binance", "BTC-USDT")
        truth = simulator.truth("binance", "BTC-USDT", ids[0] - 1, ids[-1] + 1)
        assert [row["id"] for row in truth[1:-1]] == ids
        assert len(ids) > 50_000
        assert query(binance, "SELECT 1 FROM trade_gaps") == []
    asked = simulator.stats()["venues"]["binance"]
    assert asked["/binance/archive/data/spot/daily/trades/{symbol}/{name}"]["requests"] >= 4
    # 23, of them 19 for the hole. A load that is slow is cut in two, and asks for up to 20,000 trades of the rest by
    # REST. Without the files it would be 60.
    assert asked["/binance/api/v3/historicalTrades"]["requests"] < 50
    assert simulator.stats()["totals"]["binance"]["violations"] == 0


async def _capture(url: str, trades: int) -> list[bytes]:
    async with connect(url) as client:
        names = ["btcusdt@miniTicker", "btcusd@trade", "btcusd@bookTicker"]
        await client.send(method="SUBSCRIBE", params=names, id=1)
        while sum('"e":"trade"' in text for text in client.texts) < trades:
            await client.receive()
        return [text.encode() for text in client.texts]


def test_a_capture_of_the_simulator_fulfils_the_acceptance_list(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINANCE_PRODUCT_IDS", "BTC-USD")
    url = simulator.environment()["BINANCE_WS_URL"]
    frames = asyncio.run(_capture(f"{url}?timeUnit=MICROSECOND", 20))
    assert {what: wrong for what, wrong in points(adapters()["binance"], frames) if wrong} == {}
