"""Live producers as processes, against the simulator over real sockets and a real broker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.settings import PROJECT
from simulator.testing import Simulator
from tests.venue_help import Running, published, running, until

Env = Callable[..., dict[str, str]]
VENUES = ("kraken", "coinbase", "binance")


def statuses(program: Running) -> list[str]:
    return [line["status"] for line in program.lines("connection.status")]


def subscribed(program: Running, times: int = 1) -> None:
    until("subscribed", lambda: statuses(program).count("subscribed") >= times)


def trades(env: dict[str, str], venue: str, product: str = "btc-usd") -> list[dict[str, Any]]:
    return published(env, "trades", "trades", f"{venue}.{product}")


def equal_to_tape(simulator: Simulator, venue: str, product: str, records: list[dict[str, Any]]) -> set[int]:
    """Check each published trade against the tape; give the ids."""
    rows = [row for record in records for row in record["trades"]]
    ids = {row["trade_id"] for row in rows}
    truth = {row["id"]: row for row in simulator.truth(venue, product, min(ids), max(ids))}
    for row in rows:
        real = truth[row["trade_id"]]
        assert row["timestamp_us"] == real["ts_ns"] // 1000
        assert float(row["price"]) == float(real["price"])
        assert float(row["quantity"]) == float(real["quantity"])
        assert row["taker_side"] == real["taker_side"]
    return ids


@pytest.mark.parametrize("venue", VENUES)
def test_what_the_venue_sends_is_on_the_topics(
    venue: str, settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    with running(f"producers.{venue}", settings, tmp_path) as program:
        subscribed(program)
        start = simulator.now()[venue, "BTC-USD"]
        until("trades", lambda: simulator.now()[venue, "BTC-USD"] > start + 30)
        status, health = program.health()
        assert status == 200, health
        assert health["products"]["BTC-USD"]["state"] == "live"
        assert program.metric("websocket_messages_processed_total") > 10
        assert program.metric("websocket_messages_by_symbol_total", '{symbol="BTC-USD"}') > 1
        assert program.metric("websocket_last_message_timestamp_seconds") > 1e9
        assert program.metric("message_processing_seconds_count") > 10
        assert program.metric("websocket_connection_errors_total") == 0
        assert program.end() == 0
    assert program.lines("process.stopped")[-1]["unconfirmed"] == 0
    for product in ("BTC-USD", "ETH-USD"):
        records = trades(settings, venue, product.lower())
        ids = equal_to_tape(simulator, venue, product, records)
        assert ids == set(range(min(ids), max(ids) + 1))  # from the snapshot into the updates without a hole
        assert {record["origin"] for record in records} == {"snapshot", "live"}
    tickers = published(settings, "ticker", "tickers", f"{venue}.btc-usd")
    assert tickers
    shown = [(t["bid"], t["ask"], t["bid_size"], t["ask_size"], t["last"]) for t in tickers]
    assert all(a != b for a, b in pairwise(shown))  # unchanged tickers are not published
    keys = [(t["timestamp_us"], t["seq"]) for t in tickers]
    assert len(set(keys)) == len(keys)
    if venue == "coinbase":
        candles = published(settings, "candles", "candles", "coinbase.btc-usd")
        assert candles[0]["granularity_s"] == 300
        assert [candle["final"] for candle in candles[0]["candles"]][-2:] == [True, False]


@pytest.mark.parametrize("venue", VENUES)
def test_after_a_cut_it_connects_again_and_lists_the_missed_time(
    venue: str, settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    with running(f"producers.{venue}", settings, tmp_path) as program:
        subscribed(program)
        tickers = lambda: published(settings, "ticker", "tickers", f"{venue}.btc-usd")  # noqa: E731
        until("a ticker", tickers)  # before the first one the time missed began before this program
        simulator.fault("cut", venue, count=1, seconds=1, refuse_for=1)
        subscribed(program, 2)
        until("a ticker that says so", lambda: [one for one in tickers() if one["missed_since_us"]])
        assert program.metric("websocket_connection_errors_total") >= 1
        assert program.end() == 0


@pytest.mark.parametrize("venue", VENUES)
def test_a_frame_that_cannot_be_read_is_a_dead_letter_and_not_the_end(
    venue: str, settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    with running(f"producers.{venue}", settings, tmp_path) as program:
        subscribed(program)
        simulator.fault("malformed", venue, count=2)
        until("dead letters", lambda: len(published(settings, "dead_letter", "dead-letters", venue)) >= 2)
        letter = published(settings, "dead_letter", "dead-letters", venue)[0]
        assert letter["reason"] == "json"
        assert letter["payload"]
        assert statuses(program).count("subscribed") == 1
        assert program.metric("websocket_connection_errors_total") == 0
        assert program.end() == 0


@pytest.mark.parametrize("venue", VENUES)
def test_a_subscription_that_is_acknowledged_and_then_silent_is_made_again(
    venue: str, settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    """Heartbeats and the other product's data would hide it for ever. The trades are what is subscribed first."""
    simulator.fault("mute", venue, count=1, products=["BTC-USD"])
    with running(f"producers.{venue}", settings | {"LOG_LEVEL": "DEBUG"}, tmp_path) as program:
        subscribed(program)
        program.wait_for("product.stale", 120, product="BTC-USD")
        program.wait_for("product.recovered", product="BTC-USD")
        until("health", lambda: program.health()[0] == 200)
        assert program.end() == 0
    equal_to_tape(simulator, venue, "BTC-USD", trades(settings, venue))


def test_a_stale_product_turns_health_red_and_is_named(
    settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    with running("producers.kraken", settings, tmp_path) as program:
        subscribed(program)
        until(
            "data", lambda: program.metric("trades_received_total", '{origin="live",product="BTC-USD",venue="kraken"}')
        )
        simulator.fault("silence", "kraken", seconds=120, products=["BTC/USD"])
        program.wait_for("product.stale", 120, product="BTC-USD")
        status, health = program.health()
        assert status == 503
        assert "BTC-USD" in health["why"][0]
        assert health["products"]["ETH-USD"]["state"] != "stale"
        simulator.clear()
        program.wait_for("product.recovered", product="BTC-USD")
        assert program.health()[0] == 200


def test_a_link_without_any_frame_is_given_up(settings: dict[str, str], simulator: Simulator, tmp_path: Path) -> None:
    with running("producers.kraken", settings | {"KRAKEN_WS_TIMEOUT": "2"}, tmp_path) as program:
        subscribed(program)
        simulator.fault("silence", "kraken", seconds=6, heartbeats=False)
        program.wait_for("connection.status", status="silent")
        subscribed(program, 2)


@pytest.mark.parametrize(("venue", "bad"), [("kraken", "NOPE/USD"), ("coinbase", "NOPE-USD")])
def test_a_refused_product_is_named_and_the_others_run(
    venue: str, bad: str, settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    key = f"{venue.upper()}_PRODUCT_IDS"
    with running(f"producers.{venue}", settings | {key: f"{settings[key]},{bad}"}, tmp_path) as program:
        line = program.wait_for("connection.symbol_refused")
        assert line["product"] == "NOPE-USD"
        subscribed(program)
        start = simulator.now()[venue, "BTC-USD"]
        until("trades", lambda: simulator.now()[venue, "BTC-USD"] > start + 5)
        status, health = program.health()
        assert status == 200
        assert health["products"]["NOPE-USD"]["state"] == "refused"
        assert program.end() == 0
    assert max(row["trade_id"] for record in trades(settings, venue) for row in record["trades"]) > start


def test_two_runs_with_the_same_trades_publish_them_both(
    settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    """Sequence ids made of trade ids would let the broker drop the second snapshot as a resend."""
    for _ in range(2):
        with running("producers.kraken", settings, tmp_path) as program:
            subscribed(program)
            until("the snapshot", lambda: len(program.health()[1]["products"]) == 2)
            assert program.end() == 0
            program.log.unlink()
    snapshots = [record for record in trades(settings, "kraken") if record["origin"] == "snapshot"]
    assert [len(record["trades"]) for record in snapshots] == [50, 50]


@pytest.mark.parametrize(
    ("venue", "wrong", "sentence"),
    [
        ("kraken", {"KRAKEN_PRODUCT_IDS": "[]"}, "KRAKEN_PRODUCT_IDS"),
        ("kraken", {"TRADES_PRODUCT_IDS": "b@d", "KRAKEN_PRODUCT_IDS": ""}, "is not a valid product id"),
        ("kraken", {"KRAKEN_LAST_N_DAYS": "0"}, "KRAKEN_LAST_N_DAYS"),
        ("kraken", {"KRAKEN_PRODUKT_IDS": "BTC/USD"}, "did you mean KRAKEN_PRODUCT_IDS"),
        ("coinbase", {"COINBASE_CHANNELS": "level2"}, "unknown channel"),
        ("coinbase", {"COINBASE_API_KEY": "k"}, "COINBASE_API_SECRET is missing"),
        ("coinbase", {"COINBASE_API_KEY": "k", "COINBASE_API_SECRET": "xyzzy"}, "not an ECDSA"),
    ],
)
def test_wrong_settings_are_one_sentence_and_exit_code_2(venue: str, wrong: dict[str, str], sentence: str) -> None:
    kept = {"PATH": os.environ["PATH"], "ENV_FILE": "/nonexistent", "METRICS_BASE_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-m", f"producers.{venue}"],
        env=kept | wrong,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert "xyzzy" not in done.stdout + done.stderr
