"""OANDA: prices are samples, what is missed is listed, and one wrong instrument does not cost the others."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from judge.venue_check import points
from pipeline.core.settings import PROJECT
from simulator.testing import Simulator, running_simulator
from simulator.venues.oanda.listing import ACCOUNT, TOKEN
from tests.venue_help import query, running, until
from venues.registry import adapters

Env = Callable[..., dict[str, str]]
# A refusal that names nothing is cleared up when the time of its answer is over.
HURRIED = {"producers.live.subscriptions.ACKNOWLEDGE_S": 2.0}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(seed=41) as started:
        yield started


@pytest.fixture
def oanda(env: Env, simulator: Simulator) -> dict[str, str]:
    return env(
        **simulator.environment(),
        OANDA_ENABLED="true",
        OANDA_PRODUCT_IDS="EUR/USD,XAU/USD",
    )


def sources(settings: dict[str, str]) -> dict[str, int]:
    """Live rows of the old view, by symbol."""
    return dict(query(settings, "SELECT symbol, count(*) FROM forex_ticks WHERE source = 'oanda' GROUP BY 1"))


def test_prices_are_stored_as_samples_and_a_cut_is_listed(
    oanda: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    """Prevents samples that pass for all prices, and an outage that nobody sees afterwards."""
    with running("consumers.quotes", oanda, tmp_path), running("producers.oanda", oanda, tmp_path) as program:
        program.wait_for("connection.status", status="subscribed", products=["EUR-USD", "XAU-USD"])
        until("prices", lambda: min(sources(oanda).get(name, 0) for name in ("EURUSD", "XAUUSD")) > 10)
        simulator.fault("malformed", "oanda", count=1)
        simulator.fault("double", "oanda", count=3)
        program.wait_for("connection.parse_error")
        simulator.fault("cut", "oanda", refuse_for=3)
        program.wait_for("connection.status", status="closed")
        until("the outage is listed", lambda: len(query(oanda, "SELECT 1 FROM missed_time")) >= 2)
        status, health = program.health()
        assert status == 200, health
        assert health["clock_offset_s"] is not None
        assert program.end() == 0
    rows = query(oanda, "SELECT product_id, asset_class, proof FROM instruments ORDER BY 1")
    assert rows == [("EUR-USD", "forex", "sampled"), ("XAU-USD", "metal", "sampled")]
    claims = query(
        oanda, "SELECT proof, missing, share_complete, explained > 0, missed > INTERVAL '2 s' FROM completeness"
    )
    assert claims == [("sampled", None, None, True, True)] * 2
    (spacing,) = query(
        oanda,
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY gap) FROM (SELECT extract(epoch FROM ts - lag(ts)"
        " OVER (PARTITION BY instrument_id ORDER BY ts))::float8 AS gap FROM quotes) g",
    )
    assert spacing[0] > 0.2  # four a second, as the venue samples


def test_one_wrong_instrument_is_refused_and_the_others_run(
    oanda: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    """The venue refuses the whole request and names nothing."""
    settings = oanda | {"OANDA_PRODUCT_IDS": "EUR/USD,NOPE/USD,XAU/USD"}
    with running("producers.oanda", settings, tmp_path, constants=HURRIED) as program:
        line = program.wait_for("connection.symbol_refused", product="NOPE-USD")
        assert line["reason"] == "400 Invalid value specified for 'instruments'"
        program.wait_for("connection.status", status="subscribed", products=["EUR-USD", "XAU-USD"])
        until("both", lambda: _states(program) == {"EUR-USD": "live", "NOPE-USD": "refused", "XAU-USD": "live"})
        assert simulator.stats()["totals"]["oanda"]["violations"] == 0
        assert program.end() == 0


def _states(program: object) -> dict[str, str]:
    return {product: one["state"] for product, one in program.health()[1]["products"].items()}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"OANDA_TOKEN": ""}, 2, "set OANDA_TOKEN and OANDA_ACCOUNT"),
        ({"OANDA_ACCOUNT": ""}, 2, "set OANDA_TOKEN and OANDA_ACCOUNT"),
        ({"OANDA_ACCOUNT": "../x"}, 2, "OANDA_ACCOUNT"),
        ({"OANDA_ENABLED": "false"}, 0, "OANDA_ENABLED is false"),
    ],
)
def test_without_a_token_it_is_one_sentence(
    change: dict[str, str], code: int, said: str, oanda: dict[str, str]
) -> None:
    """Prevents a program that is refused for ever, and a token in the log."""
    command = [sys.executable, "-m", "producers.oanda"]
    done = subprocess.run(command, env=oanda | change, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stderr + done.stdout


def test_history_is_refused_in_one_sentence(oanda: dict[str, str]) -> None:
    command = [sys.executable, "-m", "producers.oanda", "--historical"]
    done = subprocess.run(command, env=oanda, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "no history that could be loaded" in done.stderr) == (2, True), done.stderr
    assert "python -m producers.exchange_candles --exchanges=oanda" in done.stderr


def test_a_capture_of_the_simulator_fulfils_the_acceptance_list(
    simulator: Simulator, oanda: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OANDA_TOKEN", "OANDA_ACCOUNT", "OANDA_PRODUCT_IDS"):
        monkeypatch.setenv(name, oanda[name])
    connection = http.client.HTTPConnection("127.0.0.1", simulator.port, timeout=20)
    target = f"/oanda/stream/v3/accounts/{ACCOUNT}/pricing/stream?instruments=EUR_USD,XAU_USD"
    connection.request("GET", target, headers={"Authorization": f"Bearer {TOKEN}"})
    answer = connection.getresponse()
    frames = [b'{"status":200}']
    while not any(b"HEARTBEAT" in line for line in frames) or len(frames) < 30:
        frames.append(answer.readline().strip())
    connection.close()
    assert {what: wrong for what, wrong in points(adapters()["oanda"], frames) if wrong} == {}
