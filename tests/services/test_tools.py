"""The stock tools reach the right services, and no password shows in the list of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from pipeline.core.errors import WrongUse
from pipeline.core.programs import BY_NAME
from pipeline.core.settings import (
    PROJECT,
    DatabaseSettings,
    PulsarSettings,
    ServicesSettings,
    is_setting,
    load,
    names_of,
    sections,
)
from pipeline.services import demo, preflight
from pipeline.services.instance import Instance
from tests.environment import Environment


def _tool(name: str, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(PROJECT / "scripts" / name), *arguments], env=env, capture_output=True, text=True)


def test_psql_is_on_the_configured_database(env: Environment, database_url: str) -> None:
    """Prevents psql on another database than the pipeline's."""
    done = _tool("psql", "-At", "-c", "SELECT current_database()", env=env())
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == database_url.rsplit("/", 1)[1]


def test_psql_is_not_led_astray_by_a_service_of_the_shell(env: Environment, database_url: str, tmp_path: Path) -> None:
    """Prevents statements, as superuser even, on whatever database PGSERVICE names in this shell."""
    (tmp_path / "services").write_text("[theirs]\nhost=127.0.0.1\nport=1\ndbname=theirs\n")
    odd = {"PGSERVICE": "theirs", "PGSERVICEFILE": str(tmp_path / "services")}
    done = _tool("psql", "-At", "-c", "SELECT current_database()", env=env() | odd)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == database_url.rsplit("/", 1)[1]


def test_psql_gets_the_password_but_not_on_its_command_line(env: Environment, database_url: str) -> None:
    """Prevents a password that everybody on the machine reads with ps."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        password = connection.info.password
    look = "\\! tr '\\0' ' ' < /proc/$PPID/cmdline; echo; echo $PGPASSWORD"
    done = _tool("psql", "-At", "-c", look, env=env())
    line, given = done.stdout.strip().splitlines()
    assert "psql" in line
    assert password
    assert password not in line
    assert given == password


def test_pulsar_admin_and_client_reach_the_configured_broker(env: Environment, services: Instance) -> None:
    """Prevents the tools from talking to the default port, where another broker may be."""
    done = _tool("pulsar-admin", "brokers", "list", "standalone", env=env())
    assert done.returncode == 0, done.stderr
    assert services.pulsar_admin_url.removeprefix("https://") in done.stdout
    sent = _tool("pulsar-client", "produce", "-m", "hello", "public/default/tools", env=env())
    assert sent.returncode == 0, sent.stderr


def test_the_demo_is_apart_from_live(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_env: Callable[..., None]
) -> None:
    """Prevents a demo that writes into live data, or that cannot run beside the live pipeline."""
    in_env(PULSAR_PORT="7000", SERVICES_DATA=str(tmp_path / "data"), KRAKEN_WS_URL="wss://real.example/v2")
    live = load(PulsarSettings), load(DatabaseSettings), load(ServicesSettings)
    before = dict(os.environ)
    try:
        demo.enter_demo()
        pulsar, database, services = load(PulsarSettings), load(DatabaseSettings), load(ServicesSettings)
        assert pulsar.private
        assert database.private
        assert pulsar.port == 17_000
        assert services.data == tmp_path / "data" / "demo"
        assert {pulsar.port, pulsar.admin_port, database.port}.isdisjoint(
            {live[0].port, live[0].admin_port, live[1].port}
        )
        assert "real.example" not in str(os.environ)
        assert "127.0.0.1" in os.environ["KRAKEN_WS_URL"]
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def shell() -> Iterator[None]:
    """Entering a demonstration changes the environment: what was there comes back."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("shell")
def test_no_live_setting_survives_in_a_demo_however_it_is_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents simulated trades in the real database because its address was set as `database_url`, and settings
    without a prefix that reach the demonstration's programs."""
    every = [name.lower() for section in sections() for name in names_of(section)]
    live = {
        **dict.fromkeys(every, ""),
        "Database_Url": "postgresql://u:secret@real.example/db",
        "Pulsar_Url": "pulsar://real.example:6650",
        "Product_Ids": "REAL-USD",
        "WS_TIMEOUT": "11",
    }
    for name, value in live.items():
        monkeypatch.setenv(name, value)
    assert not load(DatabaseSettings).private
    demo.enter_demo()
    assert load(PulsarSettings).private
    assert load(DatabaseSettings).private
    assert live.keys().isdisjoint(os.environ)


@pytest.mark.usefixtures("shell")
@pytest.mark.parametrize("name", ["DATABASE_URL", "pulsar_url", "PIPELINE_DEMO"])
def test_a_demo_without_services_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Prevents simulated trades among real ones whenever a live setting reaches the demonstration all the same."""
    values = {"DATABASE_URL": "postgresql://real.example/db", "pulsar_url": "pulsar://real.example:6650"}
    monkeypatch.setenv(name, values.get(name, "/srv/real"))
    monkeypatch.setattr(demo, "is_setting", lambda _: False)
    with pytest.raises(WrongUse, match="of its own"):
        demo.enter_demo()
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.start", "--demo"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        env={**os.environ, "PIPELINE_DEMO": "1"},
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def _demo_of(checkout: Path, **ports: int) -> tuple[set[int], set[str]]:
    """Ports and folders of a checkout's demo, as its programs and the tools with `--demo` read them."""
    script = (
        "import json, os; from pipeline.services import demo; demo.enter_demo()\n"
        "from pipeline.services import preflight, local\n"
        "print(json.dumps([list(preflight.needed_ports()), [str(local.data_folder()),"
        " os.environ['STATE_DIR'], os.environ['KRAKEN_REST_URL'].split('/')[2]]]))"
    )
    env = {key: value for key, value in os.environ.items() if not is_setting(key)}
    env |= {"ENV_FILE": os.devnull, "SERVICES_DATA": str(checkout / ".services" / "data")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        env=env | {name: str(port) for name, port in ports.items()},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return set(found[0]), set(found[1])


def test_two_demos_of_two_checkouts_share_nothing(tmp_path: Path) -> None:
    """Prevents a demo that uses the other one's ports, data or counts, whatever the message about a port advised."""
    moved = {
        "PULSAR_PORT": 6651,
        "PULSAR_ADMIN_PORT": 8081,
        "DATABASE_PORT": 5434,
        "METRICS_BASE_PORT": 9200,
        "DASHBOARD_PORT": 8501,
        "SIMULATOR_PORT": 18901,
    }
    first, second = _demo_of(tmp_path / "one"), _demo_of(tmp_path / "two", **moved)
    assert first[0].isdisjoint(second[0])
    assert first[1].isdisjoint(second[1])
    assert {16_651, 18_081, 15_434, 19_201, 18_501, 18_901} <= second[0]


def test_two_settings_with_one_port_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a program that never starts because another one of ours holds its port."""
    monkeypatch.setenv("DASHBOARD_PORT", str(BY_NAME["kraken"].port))
    with pytest.raises(WrongUse, match=r"taken by both METRICS_BASE_PORT and DASHBOARD_PORT"):
        preflight.check_ports()


def test_every_program_has_a_section_of_its_own() -> None:
    """Prevents a program that the table knows and supervisord does not."""
    text = (PROJECT / "supervisord.conf").read_text()
    group = next(
        line for line in text.splitlines() if line.startswith("programs=") and "," in line and "kraken" in line
    )
    listed = set(group.removeprefix("programs=").split(","))
    assert listed == set(demo.programs())
    assert all(f"[program:{name}]\ncommand=/usr/bin/env scripts/run {name}\n" in text for name in listed)
