"""One topic, product or process that fails costs itself only: the others' data, connection and health go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pipeline.broker.admin import Admin
from pipeline.core.settings import PulsarSettings
from simulator.testing import Simulator, running_simulator
from tests.venue_help import Running, published, running, until

Env = Callable[..., dict[str, str]]
VENUES = ("kraken", "coinbase", "binance")
# The simulator answers in milliseconds; who does not within this time, twice, is called unanswered.
SOON = {"producers.live.subscriptions.ACKNOWLEDGE_S": 3}


def admin_of(env: dict[str, str]) -> Admin:
    return Admin(
        PulsarSettings(
            url=env["PULSAR_URL"],
            admin_url=env["PULSAR_ADMIN_URL"],
            token_file=env["PULSAR_TOKEN_FILE"],
            tls_ca_file=env["PULSAR_TLS_CA_FILE"],
        )
    )


def topic_path(env: dict[str, str], local: str, namespace: str = "trades") -> str:
    return quote(f"persistent/{env['PULSAR_TENANT']}/{namespace}/{local}")


def subscribed(program: Running) -> None:
    program.wait_for("connection.status", status="subscribed")


def newest(env: dict[str, str], local: str) -> int:
    rows = [row for record in published(env, "trades", "trades", local) for row in record["trades"]]
    return max((row["trade_id"] for row in rows), default=0)


def grows(env: dict[str, str], local: str, more: int = 5) -> None:
    before = newest(env, local)
    until(f"trades of {local}", lambda: newest(env, local) > before + more)


def head(env: dict[str, str], product: str) -> dict[str, Any]:
    found = [one for one in published(env, "head", "control", "heads") if one["product_id"] == product]
    return found[-1] if found else {"newest_id": 0, "from_id": 0}


def test_a_terminated_topic_is_named_and_after_its_deletion_goes_on_by_itself(
    settings: dict[str, str], tmp_path: Path
) -> None:
    """Failed sends were counted in a field that nobody read, and nothing was stored for good."""
    admin = admin_of(settings)
    with running("producers.kraken", settings, tmp_path) as program:
        subscribed(program)
        grows(settings, "kraken.btc-usd")
        admin._call("POST", topic_path(settings, "kraken.btc-usd") + "/terminate")
        until("503", lambda: program.health()[0] == 503)
        health = program.health()[1]
        assert any("BTC-USD" in why and "TopicTerminated" in why for why in health["why"]), health
        assert health["products"]["BTC-USD"]["state"] == "unpublished"
        assert health["products"]["ETH-USD"]["state"] == "live"
        assert program.metric("publish_failed_total", '{product="BTC-USD",venue="kraken"}') > 0
        program.wait_for("broker.publish_failed")
        last = newest(settings, "kraken.btc-usd")
        until("news of what is lost", lambda: head(settings, "BTC-USD")["newest_id"] > last + 5)
        grows(settings, "kraken.eth-usd")
        assert [line["status"] for line in program.lines("connection.status")].count("open") == 1
        admin._call("DELETE", topic_path(settings, "kraken.btc-usd") + "?force=true")
        until("200", lambda: program.health()[0] == 200)
        grows(settings, "kraken.btc-usd")
        assert program.end() == 0


def test_a_topic_terminated_before_the_start_does_not_hold_up_the_others(
    settings: dict[str, str], tmp_path: Path
) -> None:
    """Publishers were opened one after the other, each waited for without end."""
    with running("producers.kraken", settings, tmp_path) as program:
        subscribed(program)
        grows(settings, "kraken.btc-usd")
        assert program.end() == 0
        program.log.unlink()
    admin = admin_of(settings)
    admin._call("POST", topic_path(settings, "kraken.btc-usd") + "/terminate")
    with running("producers.kraken", settings, tmp_path) as program:
        subscribed(program)
        grows(settings, "kraken.eth-usd")
        assert program.health()[0] == 503
        admin._call("DELETE", topic_path(settings, "kraken.btc-usd") + "?force=true")
        grows(settings, "kraken.btc-usd")
        until("200", lambda: program.health()[0] == 200)
        assert program.end() == 0


def test_a_deleted_topic_comes_back(settings: dict[str, str], tmp_path: Path) -> None:
    with running("producers.kraken", settings, tmp_path) as program:
        subscribed(program)
        grows(settings, "kraken.btc-usd")
        admin_of(settings)._call("DELETE", topic_path(settings, "kraken.btc-usd") + "?force=true")
        grows(settings, "kraken.btc-usd")
        until("200", lambda: program.health()[0] == 200)


def test_a_second_process_with_other_products_runs_beside_the_first(settings: dict[str, str], tmp_path: Path) -> None:
    """It waited without end for the name that the first one has on the topic of dead letters."""
    (tmp_path / "second").mkdir()
    with (
        running("producers.kraken", settings | {"KRAKEN_PRODUCT_IDS": "BTC/USD"}, tmp_path) as first,
        running("producers.kraken", settings | {"KRAKEN_PRODUCT_IDS": "ETH/USD"}, tmp_path / "second") as second,
    ):
        subscribed(first)
        subscribed(second)
        grows(settings, "kraken.btc-usd")
        grows(settings, "kraken.eth-usd")
        assert first.health()[0] == second.health()[0] == 200
        assert first.end() == second.end() == 0


def test_a_second_process_for_the_same_product_says_so_and_takes_over(settings: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    both = settings | {"KRAKEN_PRODUCT_IDS": "BTC/USD,ETH/USD"}
    with running("producers.kraken", settings | {"KRAKEN_PRODUCT_IDS": "BTC/USD"}, tmp_path) as first:
        subscribed(first)
        grows(settings, "kraken.btc-usd")
        with running("producers.kraken", both, tmp_path / "second") as second:
            subscribed(second)
            second.wait_for("broker.published_elsewhere")
            grows(settings, "kraken.eth-usd")
            status, health = second.health()
            assert status == 200, health
            assert health["products"]["BTC-USD"]["state"] == "elsewhere"
            assert "another process is publishing it" in health["products"]["BTC-USD"]["reason"]
            assert second.metric("publish_failed_total", '{product="BTC-USD",venue="kraken"}') == 0
            assert first.end() == 0
            until("take-over", lambda: second.health()[1]["products"]["BTC-USD"]["state"] == "live")
            grows(settings, "kraken.btc-usd")


@pytest.mark.parametrize("venue", VENUES)
def test_a_product_that_the_venue_ignores_costs_the_others_nothing(
    venue: str, settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    """The connection was given up every 20 s for the one that was not acknowledged."""
    simulator.fault("ignore", venue, seconds=300, products=["ETH-USD"])
    with running(f"producers.{venue}", settings, tmp_path, constants=SOON) as program:
        line = program.wait_for("connection.symbol_unanswered", product="ETH-USD")
        assert "ETH-USD" in line["reason"]
        subscribed(program)
        status, health = program.health()
        assert status == 200, health
        assert health["products"]["ETH-USD"]["state"] == "unanswered"
        assert any("ETH-USD" in note for note in health["notes"])
        assert health["products"]["BTC-USD"]["state"] == "live"
        assert program.metric("product_unanswered", f'{{product="ETH-USD",venue="{venue}"}}') == 1
        grows(settings, f"{venue}.btc-usd")
        assert [line["status"] for line in program.lines("connection.status")].count("open") == 1
        assert program.metric("websocket_connection_errors_total") == 0


@pytest.mark.parametrize("venue", ["kraken", "coinbase"])  # Binance answers by a request's number
def test_a_product_answered_under_another_name_is_said_and_not_stored(
    venue: str, settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    """Every trade was dropped in silence, or the connection given up every 20 s."""
    symbol, other = {"kraken": ("ETH/USD", "ETH/USDC"), "coinbase": ("ETH-USD", "ETH-USDC")}[venue]
    simulator.fault("rename", venue, seconds=300, products=[symbol], **{"as": other})
    with running(f"producers.{venue}", settings, tmp_path, constants=SOON) as program:
        said = "the venue sends ETH-USD as ETH-USDC; configure ETH-USDC instead"
        program.wait_for("connection.unasked", product="ETH-USDC", text=said)
        program.wait_for("connection.symbol_unanswered", product="ETH-USD")
        health = program.health()[1]
        assert "sends ETH-USD as ETH-USDC" in health["products"]["ETH-USD"]["reason"]
        assert program.metric("frames_unasked_total", f'{{venue="{venue}"}}') > 0
        grows(settings, f"{venue}.btc-usd")
        assert program.metric("websocket_connection_errors_total") == 0
    assert newest(settings, f"{venue}.eth-usd") == 0


@pytest.mark.parametrize("venue", VENUES)
def test_heads_tell_what_the_venue_has(
    venue: str, settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    with running(f"producers.{venue}", settings, tmp_path) as program:
        subscribed(program)
        grows(settings, f"{venue}.btc-usd", 20)
        shown = newest(settings, f"{venue}.btc-usd")
        until("the head", lambda: head(settings, "BTC-USD")["newest_id"] >= shown)
        told = head(settings, "BTC-USD")
        records = published(settings, "trades", "trades", f"{venue}.btc-usd")
        assert told["from_id"] == min(row["trade_id"] for record in records for row in record["trades"])
        assert (told["venue"], told["asset_class"]) == (venue, "crypto")
        until("the clock", lambda: head(settings, "BTC-USD")["clock_offset_us"] is not None)
        assert abs(head(settings, "BTC-USD")["clock_offset_us"]) < 60_000_000
        # the stream of one product ends: REST says what is missed
        simulator.fault("silence", venue, seconds=120, products=["BTC-USD"])
        last = head(settings, "BTC-USD")["newest_id"]
        until("the head by REST", lambda: head(settings, "BTC-USD")["newest_id"] > last + 10, 90)


def test_time_without_tickers_is_listed_when_they_come_again(settings: dict[str, str], tmp_path: Path) -> None:
    """The moment since when nobody listened was forgotten with the first ticker that could not be published."""
    admin = admin_of(settings)
    with running("producers.kraken", settings, tmp_path) as program:
        subscribed(program)
        until("tickers", lambda: len(published(settings, "ticker", "tickers", "kraken.btc-usd")) > 3)
        admin._call("POST", topic_path(settings, "kraken.btc-usd", "tickers") + "/terminate")
        until("503", lambda: program.health()[0] == 503)
        assert any("tickers" in why for why in program.health()[1]["why"])
        before = published(settings, "ticker", "tickers", "kraken.btc-usd")[-1]["received_at_us"]
        admin._call("DELETE", topic_path(settings, "kraken.btc-usd", "tickers") + "?force=true")
        until("200", lambda: program.health()[0] == 200)
        until("tickers", lambda: published(settings, "ticker", "tickers", "kraken.btc-usd"))
        first = published(settings, "ticker", "tickers", "kraken.btc-usd")[0]
        assert first["missed_since_us"] is not None
        assert abs(first["missed_since_us"] - before) < 5_000_000


@pytest.mark.parametrize("venue", VENUES)
def test_a_venue_whose_clock_is_ahead_is_said_and_nothing_refused(venue: str, env: Env, tmp_path: Path) -> None:
    with running_simulator(seed=13, rate_scale=4) as simulator:
        names = ("KRAKEN", "COINBASE", "BINANCE")
        products = {f"{name}_PRODUCT_IDS": "BTC/USD" for name in names}
        settings = env(**simulator.environment(), **products, BINANCE_ENABLED="true")
        simulator.fault("clock", venue, jump=90)
        with running(f"producers.{venue}", settings, tmp_path) as program:
            subscribed(program)
            line = program.wait_for("venue.clock_offset", 120)
            assert 85 < line["offset_s"] < 95
            assert "ahead of ours" in line["text"]
            status, health = program.health()
            assert status == 200, health
            assert 85 < health["clock_offset_s"] < 95
            assert any("ahead of ours" in note for note in health["notes"])
            assert 85 < program.metric("venue_clock_offset_seconds", f'{{venue="{venue}"}}') < 95
            until("the head", lambda: 85_000_000 < (head(settings, "BTC-USD").get("clock_offset_us") or 0) < 95_000_000)
            assert program.metric("frames_unreadable_total") == 0
