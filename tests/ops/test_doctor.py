"""scripts/doctor: that each finding is true and says what to do."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pipeline import doctor
from pipeline.broker import bootstrap
from pipeline.broker.admin import Admin
from pipeline.broker.client import Bus
from pipeline.core.runtime import Stop
from pipeline.core.settings import PulsarSettings, load
from pipeline.ops import collect, doctor_database, doctor_services
from pipeline.services import preflight
from pipeline.services.conf import supervisord
from pipeline.services.processes import Process, wait_until
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
        PULSAR_ADMIN_URL="http://127.0.0.1:9",
        DATABASE_URL="postgresql://x@127.0.0.1:9/x",
        KRAKEN_ENABLED="false",
        COINBASE_REST_URL="http://127.0.0.1:9",
        DUKASCOPY_ENABLED="false",
    )
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


@pytest.mark.parametrize(
    ("server", "number", "fails"),
    [
        ("18.7", "2.31.1", True),
        ("18.7", "2.31.2", False),
        ("18.6", "2.31.1", False),
        ("18.8", "2.31.1", True),
        ("17.12 (Debian 17.12-0+deb13u1)", "2.19.3", True),
        ("17.12", "2.28.4", True),
        ("17.12", "2.28.5", False),
        ("17.12", "2.30.0", True),
        ("17.12", "2.31.2", False),
        ("17.11", "2.19.3", False),
        ("17.13", "2.28.4", True),
        ("16.16", "2.27.2", True),
        ("16.16", "2.27.3", False),
        ("16.15", "2.19.3", False),
        ("19.0", "2.40.0", False),
        ("18.7", "2.29.2", True),
        ("18.7", "2.32.0", True),
        ("18.7", "2.32.1", False),
        ("18.7", "2.33.0", False),
        ("18.7", "2.28.5", False),
        ("18beta1", "2.31.0-dev", False),
    ],
)
def test_versions_that_break_background_jobs(server: str, number: str, fails: bool) -> None:
    """Prevents retention and compression of a user's own that stop in silence (timescale/timescaledb#11015)."""
    assert (doctor_database.jobs_fail(server, number) is not None) == fails


@pytest.mark.parametrize(
    ("health", "verdict"),
    [
        ({"clock_offset_s": 0.4}, "ok"),
        ({"clock_offset_s": -1.2}, "warning"),
        ({"clock_offset_s": 90}, "warning"),
        ({"clock_offset_s": None}, None),
        ({}, None),
        ({"clock_offset_s": "90"}, None),
        ([], None),
        ({"clock_offset_s": float("nan")}, None),
    ],
)
def test_the_offset_to_each_venue_is_shown(health: object, verdict: str | None) -> None:
    """Prevents a clock that is wrong by a minute from being found by its damage."""
    found = list(doctor_services.clock_of("kraken", health))
    assert [one.verdict for one in found] == ([] if verdict is None else [verdict])
    assert all("kraken" in one.text for one in found)


def test_a_file_of_secrets_that_others_read_is_named(
    in_env: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a password in .env that every account of the machine reads."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folder keeps others out, whatever is in it
    try:
        folder.chmod(0o755)
        file = folder / ".env"
        file.write_text("LOG_LEVEL=INFO\n")
        file.chmod(0o644)
        in_env(ENV_FILE=file)
        (found,) = doctor.secrets()
        assert found.verdict == "warning"
        assert str(file) in found.text
        assert "chmod 600" in found.advice
        file.chmod(0o600)
        assert [one.verdict for one in doctor.secrets()] == ["ok"]
        file.chmod(0o644)
        folder.chmod(0o700)
        assert [one.verdict for one in doctor.secrets()] == ["ok"], "nobody comes that far"
    finally:
        shutil.rmtree(folder)


def test_rights_that_everybody_has_are_found(in_env: Callable[..., None], database_url: str) -> None:
    """Prevents a database of others, whose extension lets every reader drop chunks, from looking well."""
    in_env()
    assert not [one for one in doctor.database() if one.what == "rights"]
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("GRANT EXECUTE ON FUNCTION _timescaledb_functions.drop_chunk(regclass) TO PUBLIC")
    (found,) = [one for one in doctor.database() if one.what == "rights"]
    assert found.verdict == "warning"
    assert "protect.sql" in found.advice


STRANGER = """\
[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile={0}/pid
[unix_http_server]
file={0}/sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[program:dashboard]
command=sleep 1000
"""


def test_a_shell_under_somebody_else_s_supervisord(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents "supervisord runs and holds 0 of 15 ports", and pids of strangers in status, in a shell that another
    supervisord started, as in many images with notebooks: it names itself in the environment."""
    (tmp_path / "conf").write_text(STRANGER.replace("{0}", str(tmp_path)))
    monkeypatch.setenv("SERVICES_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SUPERVISOR_SERVER_URL", f"unix://{tmp_path / 'sock'}")
    monkeypatch.setattr(collect, "PROJECT", tmp_path)
    with subprocess.Popen(
        supervisord(tmp_path / "conf"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        try:
            assert wait_until(lambda: (tmp_path / "sock").exists(), 60)
            assert collect.supervised() == {}
            ours = Process.of(child.pid)
            assert ours is not None
            ours.record(preflight.records() / "supervisord")
            assert wait_until(lambda: collect.supervised().keys() == {"dashboard"}, 60)
        finally:
            child.terminate()
