"""A venue without contiguous ids: what the stream lost is found by comparison with REST, and not proven before."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from judge.venue_check import points
from pipeline.core.errors import WrongUse
from pipeline.core.runtime import now_us
from pipeline.core.settings import PROJECT
from producers.history.recent import reach_of
from producers.history.request import Request
from simulator.config import Config
from simulator.testing import Simulator, running_simulator
from tests.simulator_client import connect
from tests.venue_help import Running, published, query, running, stored_ids, until
from venues.bitstamp.rest import BitstampRest
from venues.bitstamp.settings import BitstampSettings
from venues.registry import adapters

Env = Callable[..., dict[str, str]]
PRODUCTS = {"bitstamp": [{"symbol": "BTCUSD", "rate": 20.0}, {"symbol": "SOLUSD", "rate": 0.02}]}
HURRIED = {"consumers.gap_filler.windows.EVERY_S": 2.0}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(seed=31, products=PRODUCTS) as started:
        yield started


@pytest.fixture
def settings(env: Env, simulator: Simulator) -> dict[str, str]:
    return env(
        **simulator.environment(),
        BITSTAMP_ENABLED="true",
        BITSTAMP_PRODUCT_IDS="BTC-USD",
        BITSTAMP_QUIET_SECONDS=1,
        GAP_FILLER_REORDER_SECONDS=1,
    )


def start(stack: ExitStack, settings: dict[str, str], folder: Path) -> tuple[Running, Running]:
    """The gap filler and the producer, beside the writers."""
    for module in ("consumers.trades", "consumers.quotes"):
        stack.enter_context(running(module, settings, folder))
    filler = stack.enter_context(running("consumers.gap_filler", settings, folder, constants=HURRIED))
    return filler, stack.enter_context(running("producers.bitstamp", settings, folder))


def claim(settings: dict[str, str], product: str = "BTC-USD") -> Any:
    """(missing, share_complete, proof, seconds since what is proven)."""
    text = (
        "SELECT missing, share_complete::float8, proof, extract(epoch FROM now() - proven_until)::float8"
        f" FROM completeness WHERE kind = 'trades' AND product_id = '{product}'"
    )
    found = query(settings, text)
    return found[0] if found else None


def complete(settings: dict[str, str], product: str = "BTC-USD") -> bool:
    return claim(settings, product) is not None and claim(settings, product)[:3] == (0, 1.0, "time windows")


def tape_ids(settings: dict[str, str], product: str = "BTC-USD") -> list[int]:
    of = Config(products=PRODUCTS).numbering("bitstamp", product.replace("-", ""))
    return [n for number in stored_ids(settings, "bitstamp", product) if (n := of.tape_id(number)) is not None]


def test_what_the_stream_lost_is_found_and_the_time_is_proven(
    settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    """Prevents lost trades of a venue whose ids show nothing, and a proof before they are stored."""
    with ExitStack() as stack:
        filler, producer = start(stack, settings, tmp_path)
        until("a proof", lambda: complete(settings))
        for fault in ("drop", "double", "reorder", "malformed"):
            simulator.fault(fault, "bitstamp", count=6, probability=0.3, endpoint="live_trades")
        simulator.fault("5xx", "bitstamp", count=1)
        simulator.fault("lag", "bitstamp", lag=5, seconds=5)
        struck = simulator.now()["bitstamp", "BTC-USD"]
        until("the faults passed", lambda: simulator.now()["bitstamp", "BTC-USD"] > struck + 200)
        filler.wait_for("gap.filled")
        producer.process.kill()  # and an outage
        producer.process.wait()
        down = simulator.now()["bitstamp", "BTC-USD"]
        until("an outage", lambda: simulator.now()["bitstamp", "BTC-USD"] > down + 200)
        stack.enter_context(running("producers.bitstamp", settings, tmp_path))
        goal = simulator.now()["bitstamp", "BTC-USD"] + 40
        first = tape_ids(settings)[0]

        def all_there() -> bool:
            ids = tape_ids(settings)
            return ids[-1] > goal and set(range(first, goal + 1)) <= set(ids)

        until("everything", all_there, 120)
        until("a proof of it", lambda: complete(settings))
        filler.wait_for("gap.repaired")
        assert query(settings, "SELECT 1 FROM trade_gaps") == []  # its ids are not called missing
        assert simulator.stats()["totals"]["bitstamp"]["violations"] == 0
        until("health", lambda: filler.health()[0] == 200)
        letters = published(settings, "dead_letter", "dead-letters", "trades-writer")
    assert letters == []  # the two ways of telling a trade's time are no contradiction
    ids = [number for number in tape_ids(settings) if number <= goal]
    assert ids == [row["id"] for row in simulator.truth("bitstamp", "BTC-USD", ids[0], goal)]
    assert "repair" in {one["origin"] for one in published(settings, "trades", "trades", "bitstamp.btc-usd")}
    assert query(settings, "SELECT count(*) > 10 FROM quotes") == [(True,)]


def test_a_product_that_hardly_trades_is_proven_and_a_stop_is_seen(
    settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    """Prevents a silence from counting as unknown, and a comparison that stands still from counting as proof."""
    with ExitStack() as stack:
        filler, _ = start(stack, settings | {"BITSTAMP_PRODUCT_IDS": "SOL-USD"}, tmp_path)
        until("a proof", lambda: complete(settings, "SOL-USD"))
        assert claim(settings, "SOL-USD")[3] < 60
        assert filler.end() == 0
        query(settings, "UPDATE trade_windows SET live_from = live_from - INTERVAL '2 min', proven ="
              " proven - tstzmultirange(tstzrange(now() - INTERVAL '61 s', NULL)) RETURNING 1")  # fmt: skip
        missing, share, *_ = claim(settings, "SOL-USD")
        assert (missing == 0, share) == (False, None)


def test_history_is_what_rest_still_shows(settings: dict[str, str], simulator: Simulator, tmp_path: Path) -> None:
    """Prevents a command that refuses what the venue has, and a load whose end nobody stored."""

    def load(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "producers.bitstamp", "--historical", *args]
        return subprocess.run(command, env=settings, cwd=PROJECT, capture_output=True, text=True, timeout=200)

    rest = BitstampRest(BitstampSettings(), tmp_path, threading.Event())
    week_us = 7 * 86_400_000_000
    with pytest.raises(WrongUse, match="the last 24 hours only"):
        reach_of(rest, Request(("BTC-USD",), now_us() - week_us, now_us()))
    start = datetime.now(UTC) - timedelta(minutes=10)
    span = ("--from", f"{start:%Y-%m-%dT%H:%M:%S}", "--to", f"{start + timedelta(minutes=5):%Y-%m-%dT%H:%M:%S}")
    with running("consumers.trades", settings, tmp_path):
        done = load(*span)
        assert done.returncode == 0, done.stderr + done.stdout[-2000:]
        ids = tape_ids(settings)
        assert len(ids) > 3000
        assert ids == [row["id"] for row in simulator.truth("bitstamp", "BTC-USD", ids[0], ids[-1])]
    again = load(*span, "--dry-run")
    assert again.returncode == 0, again.stderr
    assert f"shows {len(ids):,} trades" in again.stdout
    assert " 0 are missing; nothing was loaded" in again.stdout
    assert query(settings, "SELECT origin FROM trades GROUP BY 1") == [("history",)]


async def _capture(url: str, trades: int) -> list[bytes]:
    async with connect(url) as client:
        for channel in ("live_trades_btcusd", "order_book_btcusd"):
            await client.send(event="bts:subscribe", data={"channel": channel})
        while sum('"event":"trade"' in text for text in client.texts) < trades:
            await client.receive()
        return [text.encode() for text in client.texts]


def test_a_capture_of_the_simulator_fulfils_the_acceptance_list(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITSTAMP_PRODUCT_IDS", "BTC-USD")
    frames = asyncio.run(_capture(simulator.environment()["BITSTAMP_WS_URL"], 20))
    assert {what: wrong for what, wrong in points(adapters()["bitstamp"], frames) if wrong} == {}
