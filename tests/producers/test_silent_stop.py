"""A stop anywhere between socket and table shows within a minute, concerns its own product only, and heals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from simulator.testing import Simulator, running_simulator
from tests.venue_help import query, running, stored_ids, until

Env = Callable[..., dict[str, str]]


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    products = {"kraken": [{"symbol": s, "rate": 5} for s in ("BTC/USD", "ETH/USD")]}
    with running_simulator(seed=31, products=products, clock_offset_s=-3600.0) as started:
        yield started


@pytest.fixture
def settings(env: Env, simulator: Simulator) -> dict[str, str]:
    return env(
        **simulator.environment(),
        KRAKEN_PRODUCT_IDS="BTC/USD,ETH/USD",
        COINBASE_ENABLED="false",
        GAP_FILLER_CONFIRM_SECONDS=3,
    )


def admin(settings: dict[str, str], method: str, path: str) -> None:
    base = f"{settings['PULSAR_ADMIN_URL']}/admin/v2/persistent/{settings['PULSAR_TENANT']}/trades"
    headers = {"Authorization": f"Bearer {Path(settings['PULSAR_TOKEN_FILE']).read_text().strip()}"}
    trusted = settings["PULSAR_TLS_CA_FILE"]
    requests.request(method, f"{base}/{path}", timeout=30, headers=headers, verify=trusted).raise_for_status()


def claim(settings: dict[str, str], product: str) -> tuple[Any, Any]:
    rows = query(
        settings,
        f"SELECT missing, share_complete FROM completeness WHERE kind = 'trades' AND product_id = '{product}'",
    )
    return rows[0] if rows else (None, None)


def test_a_terminated_topic_shows_concerns_itself_and_heals_when_it_is_deleted(
    settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    """Prevents "100 %, all well" while nothing of a product is stored."""
    with ExitStack() as stack:
        for module in ("consumers.trades", "consumers.gap_filler"):
            stack.enter_context(running(module, settings, tmp_path))
        producer = stack.enter_context(running("producers.kraken", settings, tmp_path))
        until("complete", lambda: claim(settings, "BTC-USD") == claim(settings, "ETH-USD") == (0, 1))
        admin(settings, "POST", "kraken.btc-usd/terminate")
        until("missing at the head", lambda: (claim(settings, "BTC-USD")[0] or 0) > 0)
        assert claim(settings, "BTC-USD")[1] < 1
        until("503", lambda: producer.health()[0] == 503)
        assert any("BTC-USD" in text for text in producer.health()[1]["why"])
        assert not any("ETH-USD" in text for text in producer.health()[1]["why"])
        goal = simulator.now()["kraken", "ETH-USD"]
        until("the other product", lambda: stored_ids(settings, "kraken", "ETH-USD")[-1] >= goal)

        # Started anew while its topic takes nothing: the other product streams.
        producer.end()
        (tmp_path / "again").mkdir()
        producer = stack.enter_context(running("producers.kraken", settings, tmp_path / "again"))
        goal = simulator.now()["kraken", "ETH-USD"] + 5
        until("the other product again", lambda: stored_ids(settings, "kraken", "ETH-USD")[-1] >= goal)

        admin(settings, "DELETE", "kraken.btc-usd?force=true")
        goal = simulator.now()["kraken", "BTC-USD"]

        def whole() -> bool:
            ids = stored_ids(settings, "kraken", "BTC-USD")
            return ids[-1] >= goal and ids == list(range(ids[0], ids[-1] + 1))

        until("everything repaired", whole, 180)
        until("said so", lambda: claim(settings, "BTC-USD") == (0, 1))
        until("well again", lambda: producer.health()[0] == 200)
