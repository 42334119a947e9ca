"""The stock tools reach the right services, and no password shows in the list of processes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from conftest import Environment

from pipeline import demo
from pipeline.services.instance import Instance
from pipeline.settings import PROJECT, DatabaseSettings, PulsarSettings, ServicesSettings, load


def _tool(name: str, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(PROJECT / "scripts" / name), *arguments], env=env, capture_output=True, text=True)


def test_psql_is_on_the_configured_database(env: Environment, database_url: str) -> None:
    """Prevents psql on another database than the pipeline's."""
    done = _tool("psql", "-At", "-c", "SELECT current_database()", env=env())
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
    assert services.pulsar_admin_url.removeprefix("http://") in done.stdout
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
        assert services.data == tmp_path / "demo"
        assert {pulsar.port, pulsar.admin_port, database.port}.isdisjoint(
            {live[0].port, live[0].admin_port, live[1].port}
        )
        assert "real.example" not in str(os.environ)
        assert "127.0.0.1" in os.environ["KRAKEN_WS_URL"]
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_every_program_has_a_section_of_its_own() -> None:
    """Prevents a program that the table knows and supervisord does not."""
    text = (PROJECT / "supervisord.conf").read_text()
    group = next(
        line for line in text.splitlines() if line.startswith("programs=") and "," in line and "kraken" in line
    )
    listed = set(group.removeprefix("programs=").split(","))
    assert listed == set(demo.programs())
    assert all(f"[program:{name}]\ncommand=%(here)s/scripts/run {name}\n" in text for name in listed)
