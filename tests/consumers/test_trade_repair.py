"""History by command and the gap filler: whatever was missed is there afterwards, and nothing is asked too fast."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.settings import PROJECT
from simulator.testing import Simulator, running_simulator
from tests.venue_help import published, query, running, stored_ids, until

Env = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(seed=21, rate_scale=4) as started:
        yield started


@pytest.fixture
def settings(env: Env, simulator: Simulator) -> dict[str, str]:
    simulator.reset_stats()
    return env(
        **simulator.environment(),
        KRAKEN_PRODUCT_IDS="BTC/USD",
        COINBASE_PRODUCT_IDS="BTC-USD",
        COINBASE_CHANNELS="market_trades",
        BINANCE_PRODUCT_IDS="BTC-USD",
        BINANCE_ENABLED="true",
        GAP_FILLER_CONFIRM_SECONDS=3,
        GAP_FILLER_REORDER_SECONDS=1,
    )


def load(settings: dict[str, str], venue: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"producers.{venue}", "--historical", *args]
    return subprocess.run(command, env=settings, cwd=PROJECT, capture_output=True, text=True, timeout=200)


def minutes_ago(minutes: float) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S")


def requests(simulator: Simulator, venue: str) -> Any:
    return simulator.stats()["totals"][venue]


@pytest.mark.parametrize("venue", ["kraken", "coinbase", "binance"])
def test_history_is_loaded_completely_and_a_second_load_asks_almost_nothing(
    venue: str, settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    span = ("--from", minutes_ago(12), "--to", minutes_ago(5))
    with running("consumers.trades", settings, tmp_path):
        guess = load(settings, venue, *span, "--dry-run")
        assert guess.returncode == 0, guess.stderr
        assert "nothing was loaded" in guess.stdout
        assert query(settings, "SELECT 1 FROM trade_coverage") == []
        done = load(settings, venue, *span)
        assert done.returncode == 0, done.stderr + done.stdout[-2000:]
        ids = stored_ids(settings, venue, "BTC-USD")
        tape = simulator.truth(venue, "BTC-USD", ids[0] - 1, ids[-1] + 1)
        assert [row["id"] for row in tape[1:-1]] == ids
        edges = [datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() for text in (span[1], span[3])]
        assert tape[0]["ts_ns"] / 1e9 < edges[0] <= tape[1]["ts_ns"] / 1e9  # --from is included
        assert tape[-2]["ts_ns"] / 1e9 < edges[1] <= tape[-1]["ts_ns"] / 1e9  # --to is not
        before = requests(simulator, venue)["requests"]
        assert load(settings, venue, *span).returncode == 0
        assert requests(simulator, venue)["requests"] - before <= 12
        assert stored_ids(settings, venue, "BTC-USD") == ids
    assert requests(simulator, venue)["violations"] == 0


def test_a_load_that_does_not_wait_for_the_writer_has_published_all_when_it_ends(
    settings: dict[str, str], simulator: Simulator
) -> None:
    done = load(settings, "coinbase", "--from", minutes_ago(12), "--to", minutes_ago(5), "--no-wait-for-ledger")
    assert done.returncode == 0, done.stderr
    records = published(settings, "trades", "trades", "coinbase.btc-usd")
    ids = sorted(row["trade_id"] for record in records for row in record["trades"])
    assert len(ids) > 1000
    assert ids == [row["id"] for row in simulator.truth("coinbase", "BTC-USD", ids[0], ids[-1])]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--last-n-days", "0"), "last-n-days"),
        (("--from", "soon"), "invalid time 'soon'"),
        (("--from", "2030-01-01"), "--from"),
        (("--from", "2026-01-02", "--to", "2026-01-01"), "earlier"),
        (("--from", "2026-01-02", "--last-n-days", "1"), "either"),
    ],
)
def test_a_span_that_is_none_is_one_sentence(settings: dict[str, str], args: tuple[str, ...], sentence: str) -> None:
    done = load(settings, "kraken", *args)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_pair_fails_and_the_other_is_loaded(
    settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    with running("consumers.trades", settings, tmp_path):
        done = load(settings, "kraken", "--products", "NOPE/USD,ETH/USD", "--from", minutes_ago(7))
    assert done.returncode == 1
    assert "NOPE-USD" in done.stderr
    assert stored_ids(settings, "kraken", "ETH-USD")


@pytest.mark.parametrize("venue", ["kraken", "coinbase", "binance"])
def test_what_faults_took_away_is_repaired_and_what_exists_nowhere_is_explained(
    venue: str, settings: dict[str, str], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        # So many trades that the hundreds which are to pass meanwhile do so in seconds.
        simulator = stack.enter_context(running_simulator(seed=22, rate_scale=16))
        settings = settings | simulator.environment()
        for module in ("consumers.trades", "consumers.gap_filler"):
            stack.enter_context(running(module, settings, tmp_path))
        producer = stack.enter_context(running(f"producers.{venue}", settings, tmp_path))
        until("first trades", lambda: len(stored_ids(settings, venue, "BTC-USD")) > 50)
        (hole,) = simulator.fault("hole", venue, count=3, products=["BTC-USD"])
        for fault in ("drop", "double", "reorder", "malformed"):
            simulator.fault(fault, venue, count=4, probability=0.4)
        for fault in ("429", "html", "truncated-body", "5xx"):
            simulator.fault(fault, venue, count=1)
        simulator.fault("lag", venue, lag=5, seconds=8)
        until("the hole passed", lambda: simulator.now()[venue, "BTC-USD"] > hole["last_id"] + 100)
        producer.process.kill()  # and an outage longer than the snapshot reaches back
        producer.process.wait()
        down = simulator.now()[venue, "BTC-USD"]
        until("an outage", lambda: simulator.now()[venue, "BTC-USD"] > down + 300)
        stack.enter_context(running(f"producers.{venue}", settings, tmp_path))
        goal = simulator.now()[venue, "BTC-USD"] + 20
        until("new trades", lambda: max(stored_ids(settings, venue, "BTC-USD")) > goal)
        truth = [
            row["id"] for row in simulator.truth(venue, "BTC-USD", stored_ids(settings, venue, "BTC-USD")[0], goal)
        ]
        until("everything", lambda: set(truth) <= set(stored_ids(settings, venue, "BTC-USD")), 120)
        until("no open hole", lambda: not query(settings, "SELECT 1 FROM trade_gaps"), 120)
        # The filler tells of a repair when it looks next, so while it runs.
        said = {"opened", "repaired", "unrepairable"}
        until("all told", lambda: said <= {gap["event"] for gap in published(settings, "gap", "control", "gaps")})
        ids = [number for number in stored_ids(settings, venue, "BTC-USD") if number <= goal]
        violations = requests(simulator, venue)["violations"]
    assert ids == truth
    holes = query(settings, "SELECT first_id, last_id, reason FROM holes WHERE signed_at IS NOT NULL")
    assert holes == [(hole["first_id"], hole["last_id"], "venue_has_none")]
    origins = {record["origin"] for record in published(settings, "trades", "trades", f"{venue}.btc-usd")}
    assert "repair" in origins
    assert violations == 0


def test_a_hole_further_back_than_the_setting_is_recorded_and_not_asked_for(
    settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    settings = settings | {"GAP_FILLER_MAX_AGE_DAYS": "1"}
    with running("consumers.trades", settings, tmp_path):
        for start, end in ((60 * 24 * 3 + 4, 60 * 24 * 3 + 3), (60 * 24 * 3 + 1, 60 * 24 * 3)):
            done = load(settings, "coinbase", "--from", minutes_ago(start), "--to", minutes_ago(end))
            assert done.returncode == 0, done.stderr
        # Two loads are two requests: what lies between them was not asked for, so it is not missing.
        assert query(settings, "SELECT 1 FROM trade_gaps") == []
        assert query(settings, "SELECT missing, share_complete::int FROM completeness") == [(0, 1)]
        # As if a stream had begun with the first load and been away since: nobody told a load to bring what is between.
        query(settings, "UPDATE trade_coverage SET asked = '{}' RETURNING 1")
        (gap,) = query(settings, "SELECT first_id, last_id FROM trade_gaps")
        simulator.reset_stats()
        with running("consumers.gap_filler", settings, tmp_path):
            until("an explanation", lambda: not query(settings, "SELECT 1 FROM trade_gaps"))
    assert query(settings, "SELECT first_id, last_id, reason FROM holes") == [(*gap, "too_old")]
    assert simulator.stats()["totals"]["coinbase"]["requests"] <= 3  # the newest trade, and what time it is there


@pytest.mark.parametrize("venue", ["kraken", "coinbase", "binance"])
def test_an_hour_without_a_producer_is_there_afterwards_without_anyone_asking(
    venue: str, env: Env, tmp_path: Path
) -> None:
    """What passed while a producer was down lies behind its snapshot, and nobody else heard it."""
    symbols = {"kraken": "BTC/USD", "coinbase": "BTC-USD", "binance": "BTCUSD"}
    rare = {name: [{"symbol": symbol, "rate": 1}] for name, symbol in symbols.items()}
    with running_simulator(seed=5, clock_offset_s=-3700, products=rare) as simulator, ExitStack() as stack:
        settings = env(
            **simulator.environment(),
            KRAKEN_PRODUCT_IDS="BTC/USD",
            COINBASE_PRODUCT_IDS="BTC-USD",
            COINBASE_CHANNELS="market_trades",
            BINANCE_PRODUCT_IDS="BTC-USD",
            BINANCE_ENABLED="true",
            GAP_FILLER_REORDER_SECONDS=1,
        )
        for module in ("consumers.trades", "consumers.gap_filler"):
            stack.enter_context(running(module, settings, tmp_path))
        with running(f"producers.{venue}", settings, tmp_path):
            until("first trades", lambda: len(stored_ids(settings, venue, "BTC-USD")) > 20)
        simulator.fault("clock", venue, jump=3600)
        stack.enter_context(running(f"producers.{venue}", settings, tmp_path))
        newest = simulator.now()[venue, "BTC-USD"]

        def complete() -> bool:
            ids = stored_ids(settings, venue, "BTC-USD")
            return ids[-1] >= newest and ids == list(range(ids[0], ids[-1] + 1))

        until("the hour", complete, 120)
        ids = stored_ids(settings, venue, "BTC-USD")
        assert len(ids) > 3600
        assert ids == [row["id"] for row in simulator.truth(venue, "BTC-USD", ids[0], ids[-1])]
        assert simulator.stats()["totals"][venue]["violations"] == 0


def test_what_a_load_asked_for_is_never_too_old(settings: dict[str, str], simulator: Simulator, tmp_path: Path) -> None:
    """Prevents a back-fill that was stopped from being called complete: what it had not fetched yet lay further back
    than the setting, was explained away by the gap filler, and left out by the resumed load."""
    settings = settings | {"GAP_FILLER_MAX_AGE_DAYS": "1"}
    ages = [60 * 24 * 3 + minutes for minutes in (4, 3, 1, 0)]
    oldest, from_, to, newest = map(minutes_ago, ages)
    with running("consumers.trades", settings, tmp_path):
        for span in ((oldest, from_), (to, newest)):
            assert load(settings, "coinbase", "--from", span[0], "--to", span[1]).returncode == 0
        # The load of all was stopped before it fetched anything.
        query(settings, "UPDATE trade_coverage SET asked = range_merge(asked)::int8multirange RETURNING 1")
        (gap,) = query(settings, "SELECT first_id, last_id FROM trade_gaps")
        with running("consumers.gap_filler", settings, tmp_path):
            until("its trades", lambda: not query(settings, "SELECT 1 FROM trade_gaps"))
    assert query(settings, "SELECT * FROM holes") == []
    ids = stored_ids(settings, "coinbase", "BTC-USD")
    assert set(range(gap[0], gap[1] + 1)) <= set(ids)
    assert ids == [row["id"] for row in simulator.truth("coinbase", "BTC-USD", ids[0], ids[-1])]


def test_a_load_goes_on_when_the_database_ends_its_sessions(
    settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    """Prevents a load that ends with a traceback, and its other products with it, because a connection was lost."""
    ended = 0
    span = ("--products", "BTC/USD,ETH/USD", "--from", minutes_ago(12), "--to", minutes_ago(5))
    with running("consumers.trades", settings, tmp_path):
        with running("producers.kraken", settings, tmp_path, "--historical", *span) as program:

            def end_one() -> bool:
                found = query(
                    settings,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name = 'kraken-history'",
                )
                return bool(found) or program.process.poll() is not None

            while ended < 6 and program.process.poll() is None:
                until("a session", end_one)
                ended += 1
            assert program.process.wait(180) == 0, program.log.read_text()[-3000:]
        assert program.lines("database.retry")
        for product in ("BTC-USD", "ETH-USD"):
            ids = stored_ids(settings, "kraken", product)
            assert [row["id"] for row in simulator.truth("kraken", product, ids[0], ids[-1])] == ids
