"""Kraken's own names: a product that the venue writes in small letters streams and loads like any other."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulsar
import pytest

from simulator.testing import Simulator, running_simulator
from tests.environment import Environment
from tests.venue_help import published, running, until
from venues.kraken.rest import KrakenRest
from venues.kraken.settings import KrakenSettings
from venues.kraken.spelling import Spelled, pairs_of, usual
from venues.rest.client import Answer

PRODUCTS = [{"symbol": "BTC/USD"}, {"symbol": "T/USD", "rate": 4.0}, {"symbol": "AAPLx/USD", "rate": 4.0}]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(seed=5, products={"kraken": PRODUCTS}) as started:
        yield started


def _rest(simulator: Simulator, folder: Path, **settings: object) -> KrakenRest:
    url = simulator.environment()["KRAKEN_REST_URL"]
    return KrakenRest(KrakenSettings(**{"rest_url": url, "rest_rate": 5} | settings), folder, threading.Event())  # type: ignore[arg-type]


def _trades(environment: dict[str, str], product: str) -> list[Any]:
    try:
        return published(environment, "trades", "trades", f"kraken.{product}")
    except pulsar.TopicNotFound:
        return []


def test_it_streams_under_our_name(simulator: Simulator, env: Environment, tmp_path: Path) -> None:
    environment = env(
        **simulator.environment(), KRAKEN_PRODUCT_IDS="aaplx-usd,T/USD,BTC/USD", STATE_DIR=tmp_path / "state"
    )
    with running("producers.kraken", environment, tmp_path) as live:
        for product in ("aaplx-usd", "t-usd"):
            until(product, lambda p=product: _trades(environment, p))  # type: ignore[misc]
        assert not live.lines("connection.symbol_refused")


def test_rest_is_asked_under_the_venue_s_name_by_every_process(simulator: Simulator, tmp_path: Path) -> None:
    """Prevents a gap filler that cannot repair what the live program streams."""
    first, second = _rest(simulator, tmp_path), _rest(simulator, tmp_path)
    first.spelling.learn(["AAPLX-USD"])
    for rest in (first, second):
        page, _ = rest.page("AAPLX-USD", None, count=10)
        assert len(page.ids) == 10
        assert rest.spelling.of("AAPLX-USD") == Spelled("AAPLx/USD", "AAPLxUSD", "tokenized_asset", "AAPLxUSD")
        assert rest.spelling.of("BTC-USD") == Spelled("BTC/USD", "XBTUSD", "currency", "XXBTZUSD")
    simulator.reset_stats()
    second.spelling.learn(["AAPLX-USD", "BTC-USD"])
    assert "kraken" not in simulator.stats()["totals"]


def test_what_the_venue_does_not_list_is_not_asked_for_all_the_time(simulator: Simulator, tmp_path: Path) -> None:
    """Prevents a list of the venue's pairs that is fetched again with every question about a product it lacks."""
    rest = _rest(simulator, tmp_path)
    rest.spelling.learn(["NOPE-USD"])
    simulator.reset_stats()
    for _ in range(5):
        rest.spelling.learn(["NOPE-USD"])
    assert "kraken" not in simulator.stats()["totals"]
    assert rest.spelling.of("NOPE-USD") == usual("NOPE-USD")


def test_without_rest_and_with_a_damaged_copy_names_are_in_capitals(tmp_path: Path) -> None:
    """Prevents a stream that does not begin because REST does not answer."""
    for content in (b"", b"[1]", b'{"a": 1}', b'{"a": ["b"]}', b"[" * 100_000, b"\xff\x00"):
        (tmp_path / "kraken-pairs.json").write_bytes(content)
        rest = KrakenRest(KrakenSettings(rest_url="http://127.0.0.1:1"), tmp_path, threading.Event())
        rest.spelling.learn_soon(["BTC-USD", "DOGE-USD"], patience_s=0.01)
        assert rest.spelling.of("BTC-USD") == Spelled("BTC/USD", "XBTUSD")
        assert rest.spelling.of("DOGE-USD") == Spelled("DOGE/USD", "XDGUSD")


def test_an_odd_pair_costs_itself() -> None:
    """Prevents a venue that names files, questions or other pairs by its list."""
    listed = {
        "a": {"altname": "AAPLxUSD", "wsname": "AAPLx/USD", "aclass_base": "tokenized_asset"},
        "b": {"altname": "XDGUSD", "wsname": "XDG/USD"},
        "c": {"altname": "BTC&since=0", "wsname": "BTC/USD"},
        "d": {"altname": "X", "wsname": "../USD"},
        "e": None,
        "f": {"altname": "XBTUSD.d"},
        "g": {"altname": 5, "wsname": 7},
        "h": {"altname": "T", "wsname": "A/B/C"},
    }
    answer = Answer(json.dumps({"error": [], "result": listed}).encode(), {})
    assert pairs_of("currency")(answer) == {"DOGE-USD": Spelled("DOGE/USD", "XDGUSD", "currency", "b")}
    assert pairs_of("tokenized_asset")(answer)["AAPLX-USD"] == Spelled("AAPLx/USD", "AAPLxUSD", "tokenized_asset", "a")
