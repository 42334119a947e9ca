"""What tests of the simulator share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simulator.testing import Simulator, running_simulator
from tests.simulator_client import BUSY

FAST = {"kraken_rest_rate": 1000, "kraken_rest_burst": 1000, "coinbase_rest_rate": 1000, "coinbase_rest_burst": 1000}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """Kraken and Coinbase with hundreds of trades a second, whose REST refuses nobody."""
    with running_simulator(seed=11, products=BUSY, **FAST) as running:
        yield running
