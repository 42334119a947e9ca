"""Loads of trades by command: a lost database costs no product, and a dry run leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from pipeline.core.settings import PROJECT
from pipeline.services.instance import Instance
from simulator.testing import Simulator
from tests.venue_help import PATIENCE_S, running, stored_ids, until

LOST = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE application_name = 'kraken-history' AND datname = current_database()"
)


def command(venue: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", f"producers.{venue}", "--historical", *flags]


def minutes_ago(minutes: int) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S")


def test_a_load_outlives_its_connections_to_the_database(
    settings: dict[str, str], simulator: Simulator, tmp_path: Path
) -> None:
    """Prevents a restart of the database from ending a load with a traceback, and its other products from never being
    loaded."""
    settings["KRAKEN_REST_RATE"] = "2"
    flags = ("--from", minutes_ago(12), "--to", minutes_ago(5))
    with (
        running("consumers.trades", settings, tmp_path),
        psycopg.connect(settings["DATABASE_URL"], autocommit=True) as conn,
        subprocess.Popen(command("kraken", *flags), env=settings, cwd=PROJECT) as load,
    ):
        for _ in range(6):
            until("a connection", lambda: load.poll() is not None or conn.execute(LOST).fetchone() != (0,))
        assert load.wait(PATIENCE_S) == 0
    for product in ("BTC-USD", "ETH-USD"):
        ids = stored_ids(settings, "kraken", product)
        symbol = product.replace("-", "/")
        assert [row["id"] for row in simulator.truth("kraken", symbol, ids[0], ids[-1])] == ids
        assert len(ids) > 100


@pytest.mark.parametrize("venue", ["kraken", "bitstamp"])
def test_a_dry_run_makes_no_tables(settings: dict[str, str], services: Instance, venue: str) -> None:
    """Prevents a question from changing a database, or from waiting for ever where there is none."""
    name = f"empty_{venue}"
    flags = ("--from", minutes_ago(12), "--dry-run")
    with psycopg.connect(services.database_url(), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}")
        try:
            settings["DATABASE_URL"] = services.database_url(name)
            asked = subprocess.run(
                command(venue, *flags), env=settings, cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE_S
            )
            assert asked.returncode == 0, asked.stderr
            assert "nothing was loaded" in asked.stdout
            with psycopg.connect(settings["DATABASE_URL"]) as made:
                assert made.execute("SELECT to_regclass('trades'), to_regclass('migrations')").fetchone() == (
                    None,
                    None,
                )
        finally:
            conn.execute(f"DROP DATABASE {name} WITH (FORCE)")
    settings["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/nothing"
    asked = subprocess.run(
        command(venue, *flags), env=settings, cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert asked.returncode == 1
    assert "the database does not answer" in asked.stderr
