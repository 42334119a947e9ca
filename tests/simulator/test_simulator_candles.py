"""The candle endpoints answer ccxt as it comes, from the tape, with the faults that the consensus must survive."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import ccxt
import pytest

from simulator.candles import candles
from simulator.tape import fixed
from simulator.testing import Simulator, running_simulator

VENUES = ("kraken", "coinbase", "binance")
WIDTH_MS = 60_000


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(seed=11, kraken_rest_rate=1000, kraken_rest_burst=1000, coinbase_rest_rate=1000) as running:
        yield running


def exchange(simulator: Simulator, name: str) -> Any:
    """ccxt's own class with nothing but its addresses set."""
    base = json.loads(simulator.environment()["EXCHANGE_CANDLES_URLS"])[name]
    client = getattr(ccxt, name)({"enableRateLimit": False})
    client.urls["api"] = {key: re.sub(r"^https?://[^/]+", base, url) for key, url in client.urls["api"].items()}
    return client


def start_ms(simulator: Simulator, hours: int) -> int:
    return (simulator.now_ns() // 10**6 // 3_600_000 - hours) * 3_600_000


@pytest.mark.parametrize("name", VENUES)
def test_ccxt_gets_the_tapes_candles(simulator: Simulator, name: str) -> None:
    client, since = exchange(simulator, name), start_ms(simulator, 5)
    rows = client.fetch_ohlcv("BTC/USD", "1m", since=since, limit=240)
    tape = simulator.tape(name, "BTC-USD")
    made = candles(tape, since // 1000, since // 1000 + 240 * 60, 60, simulator.now_ns())
    decimals = tape.product.price_decimals
    assert [row[0] for row in rows] == [candle.start_s * 1000 for candle in made]
    for row, candle in zip(rows, made, strict=True):
        assert [Decimal(str(price)) for price in row[1:5]] == [Decimal(fixed(p, decimals)) for p in candle[1:5]]
        assert Decimal(str(row[5])) == Decimal(fixed(candle.volume, 8))


@pytest.mark.parametrize("name", VENUES)
def test_ccxt_loads_the_markets(simulator: Simulator, name: str) -> None:
    markets = exchange(simulator, name).load_markets()
    assert {"BTC/USD", "ETH/USD", "BTC/USDT", "DOGE/USD"} <= set(markets)
    assert all(market["spot"] and market["active"] for market in markets.values())


def test_the_venues_differ_a_little(simulator: Simulator) -> None:
    since = start_ms(simulator, 3)
    closes = [exchange(simulator, name).fetch_ohlcv("BTC/USD", "1m", since=since, limit=1)[0][4] for name in VENUES]
    assert len(set(closes)) == 3
    assert max(closes) / min(closes) < 1.001


def test_a_venue_down_a_wrong_price_and_missing_candles(simulator: Simulator) -> None:
    since = start_ms(simulator, 5)
    binance, coinbase, kraken = (exchange(simulator, name) for name in ("binance", "coinbase", "kraken"))
    right = coinbase.fetch_ohlcv("BTC/USD", "1m", since=since, limit=100)
    for client in (binance, kraken):
        client.load_markets()
    simulator.fault("venue-down", "binance", seconds=60)
    simulator.fault("wrong-price", "coinbase", factor=1.5, seconds=60)
    simulator.fault("missing-candles", "kraken", share=0.5, seconds=60)
    with pytest.raises(ccxt.NetworkError):
        binance.fetch_ohlcv("BTC/USD", "1m", since=since, limit=100)
    wrong = coinbase.fetch_ohlcv("BTC/USD", "1m", since=since, limit=100)
    assert wrong[0][4] == pytest.approx(right[0][4] * 1.5, rel=1e-6)
    rows = kraken.fetch_ohlcv("BTC/USD", "1m", since=since, limit=200)
    assert 50 < sum(row[0] < since + 200 * WIDTH_MS for row in rows) < 150
    assert rows == kraken.fetch_ohlcv("BTC/USD", "1m", since=since, limit=200)


def test_calls_are_counted_per_endpoint(simulator: Simulator) -> None:
    """A back-fill's number of calls is judged by this count."""
    client, since = exchange(simulator, "binance"), start_ms(simulator, 48)
    client.load_markets()
    simulator.reset_stats()
    for page in range(2):
        rows = client.fetch_ohlcv("ETH/USD", "1m", since=since + page * 1000 * WIDTH_MS, limit=1000)
        assert len(rows) == 1000
    assert simulator.stats()["venues"]["binance"]["/binance/api/v3/klines"]["requests"] == 2


def test_kraken_gives_720_candles_unless_told_otherwise(simulator: Simulator) -> None:
    since = start_ms(simulator, 72)
    assert exchange(simulator, "kraken").fetch_ohlcv("BTC/USD", "1m", since=since)[0][0] > since
    with running_simulator(seed=11, kraken_ohlc_history=True) as running:
        rows = exchange(running, "kraken").fetch_ohlcv("BTC/USD", "1m", since=since)
        assert rows[0][0] == since
        assert len(rows) >= 719


def test_the_last_candle_of_a_window_is_whole(simulator: Simulator) -> None:
    """Prevents two answers that differ in a candle only because one of them ends with it."""
    tape, now_ns = simulator.tape("coinbase", "BTC-USD"), simulator.now_ns()
    minute_s = now_ns // 10**9 // 60 * 60 - 60  # of the running hour, which is not kept
    wide = candles(tape, minute_s - 120, minute_s + 60, 60, now_ns)
    assert candles(tape, minute_s - 120, minute_s + 1, 60, now_ns) == wide
