"""scripts/doctor: that each finding is true and says what to do."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from pipeline import bootstrap, doctor, doctor_services
from pipeline.admin import Admin
from pipeline.bus import Bus
from pipeline.process import Stop
from pipeline.settings import PulsarSettings, load
from simulator.testing import running_simulator


def verdicts(found: list[doctor_services.Finding]) -> dict[str, str]:
    return {one.what: one.verdict for one in found}


def test_a_whole_pipeline_is_well(in_env: Callable[..., None]) -> None:
    """Prevents alarms about what is as it should be."""
    with running_simulator(seed=1) as simulator:
        in_env(DUKASCOPY_FEED="bi5", **simulator.environment())
        bootstrap.broker(load(PulsarSettings))
        Bus(load(PulsarSettings), Stop()).publisher("trades", "kraken", "BTC-USD", "trades", "test")
        found = [*doctor.broker(), *doctor.database(), *doctor.venues(), *doctor.settings()]
    assert {one.verdict for one in found} == {"ok"}, found
    assert {"broker", "policies", "schemas", "database", "tables", "venues", "clock", "settings"} <= verdicts(
        found
    ).keys()
    assert any("1 topics carry" in one.text for one in found)


def test_a_policy_that_somebody_changed_is_found(in_env: Callable[..., None]) -> None:
    """Prevents deduplication or retention that was switched off from going unseen."""
    in_env()
    settings = load(PulsarSettings)
    bootstrap.broker(settings)
    Admin(settings).set_deduplication(f"{settings.tenant}/trades", False)
    (found,) = [one for one in doctor.broker() if one.what == "policies"]
    assert (found.verdict, found.text) == ("warning", "trades has no deduplication")
    assert "pipeline.bootstrap" in found.advice


def test_services_that_are_gone_fail_with_advice(env: Callable[..., dict[str, str]], python: str) -> None:
    """Prevents a stack trace in place of a sentence."""
    nowhere = env(
        PULSAR_ADMIN_URL="http://127.0.0.1:9", DATABASE_URL="postgresql://x@127.0.0.1:9/x", KRAKEN_ENABLED="false",
        COINBASE_REST_URL="http://127.0.0.1:9", DUKASCOPY_ENABLED="false",
    )  # fmt: skip
    done = subprocess.run([python, "-m", "pipeline.doctor", "--json"], env=nowhere, capture_output=True, text=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    by = {one["what"]: one for one in found}
    assert by["broker"]["verdict"] == by["database"]["verdict"] == "failed"
    assert by["venues"]["verdict"] == "warning"
    assert all(one["advice"] for one in found if one["verdict"] != "ok")


def test_wrong_settings_come_first(env: Callable[..., dict[str, str]], python: str) -> None:
    """Prevents twenty findings that all come from one mistyped name."""
    wrong = env(KRAKEN_LAST_N_DAYS="0")
    done = subprocess.run([python, "-m", "pipeline.doctor", "--json"], env=wrong, capture_output=True, text=True)
    (line,) = done.stdout.splitlines()
    assert done.returncode == 1
    assert "KRAKEN_LAST_N_DAYS" in json.loads(line)["text"]


@pytest.mark.parametrize(("off", "verdict"), [(0.3, "ok"), (-5, "warning"), (70, "failed")])
def test_clock(off: float, verdict: str) -> None:
    """Prevents a clock that runs ahead until every trade is refused as being of the future."""
    (found,) = doctor_services._clock([off, off, 400.0])
    assert found.verdict == verdict
    assert next(iter(doctor_services._clock([]))).verdict == "warning"
