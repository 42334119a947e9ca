"""What tests of producers share. Where the market has to be another one, `simulator` is a fixture of the module."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulator.testing import Simulator, running_simulator
from tests.candles_help import Candles
from tests.scripted_exchange import Scripted, first_from

Env = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """Ten products a venue, with some trades a second each."""
    with running_simulator(seed=11, rate_scale=4) as started:
        yield started


@pytest.fixture
def settings(env: Env, simulator: Simulator, tmp_path: Path) -> dict[str, str]:
    """Of live producers with two products, against the simulator."""
    return env(
        **simulator.environment(),
        KRAKEN_PRODUCT_IDS="BTC/USD,ETH/USD",
        COINBASE_PRODUCT_IDS="BTC-USD,ETH-USD",
        BINANCE_PRODUCT_IDS="BTC-USD,ETH-USD",
        BINANCE_ENABLED="true",
        LOG_FORMAT="json",
        METRICS_BASE_PORT=0,
        STATE_DIR=tmp_path / "state",
        KRAKEN_QUIET_SECONDS=1,
        COINBASE_QUIET_SECONDS=1,
        BINANCE_QUIET_SECONDS=1,
    )


@pytest.fixture
def program(env: Env, python: str, simulator: Simulator) -> Iterator[Candles]:
    """The exchange candles' command against the simulator, with its writer."""
    simulator.reset_stats()
    made = Candles(env(**simulator.environment()), python, simulator)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.server.shutdown()


@pytest.fixture
def scripted(server: Scripted) -> Scripted:
    now = int(time.time() * 1000) // 60_000 * 60_000
    server.script, server.calls, server.refusals = first_from, 0, []
    server.broken, server.asked = set(), Counter()
    server.rows = [
        [now - n * 60_000, "100", "101", "99", "100.5", f"{n % 7 + 1}.25", 0, "0", 1, "0", "0", "0"]
        for n in range(1440, -1, -1)
    ]
    return server
