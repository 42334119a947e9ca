"""What tests of producers share: their `simulator` is a fixture of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulator.testing import Simulator
from tests.candles_help import Candles

Env = Callable[..., dict[str, str]]


@pytest.fixture(autouse=True)
def _no_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """The faults of one test do not reach the next."""
    made = request.getfixturevalue("simulator") if "simulator" in request.fixturenames else None
    yield
    if isinstance(made, Simulator):
        made.clear()


@pytest.fixture
def settings(env: Env, simulator: Simulator, tmp_path: Path) -> dict[str, str]:
    """Of live producers with two products, against the simulator."""
    return env(
        **simulator.environment(),
        KRAKEN_PRODUCT_IDS="BTC/USD,ETH/USD",
        COINBASE_PRODUCT_IDS="BTC-USD,ETH-USD",
        LOG_FORMAT="json",
        METRICS_BASE_PORT=0,
        STATE_DIR=tmp_path / "state",
        KRAKEN_QUIET_SECONDS=1,
        COINBASE_QUIET_SECONDS=1,
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
