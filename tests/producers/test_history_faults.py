"""Loads of trades by command: a dry run leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from pipeline.core.settings import PROJECT
from pipeline.services.instance import Instance
from tests.venue_help import PATIENCE_S


def command(venue: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", f"producers.{venue}", "--historical", *flags]


def minutes_ago(minutes: int) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S")


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
