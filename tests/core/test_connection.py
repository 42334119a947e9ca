"""The sessions of the database: what the environment of a program cannot change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from pipeline.core.settings import DatabaseSettings, load
from pipeline.database.connection import connect
from pipeline.services.database import Database
from pipeline.services.instance import Instance

# What psql's users have in their environment, and libpq takes from there into every connection of every program.
THEIRS = {"PGTZ": "Asia/Kolkata", "PGDATESTYLE": "SQL,DMY", "PGOPTIONS": "-c intervalstyle=iso_8601"}


def test_the_variables_of_libpq_do_not_change_what_is_read(
    in_env: Callable[..., None], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents days that begin at another hour, and so are called complete, and times that cannot be read."""
    in_env(DATABASE_URL=database_url)
    for name, value in THEIRS.items():
        monkeypatch.setenv(name, value)
    with connect(load(DatabaseSettings), "test") as conn:
        moment = datetime(2026, 11, 28, 23, 30, tzinfo=UTC)
        found = conn.execute(
            "SELECT %s::timestamptz, %s::timestamptz::date::text, INTERVAL '1 day'::text", [moment] * 2
        )
        assert found.fetchone() == (moment, "2026-11-28", "1 day")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PGSERVICE", "not-there"),
        ("PGHOSTADDR", "127.0.0.9"),
        ("PGSSLMODE", "verify-full"),
        ("PGSSLNEGOTIATION", "direct"),
        ("PGREQUIREAUTH", "gss"),
        ("PGSSLCERTMODE", "require"),
        ("PGTARGETSESSIONATTRS", "standby"),
    ],
)
def test_no_variable_of_libpq_keeps_a_program_from_the_private_database(
    monkeypatch: pytest.MonkeyPatch, services: Instance, name: str, value: str
) -> None:
    """Prevents programs that ask another server, or none, because of what somebody's shell has for another database;
    and a watchdog that takes the database for dead and kills it."""
    what = services.database.what
    assert isinstance(what, Database)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("DATABASE_PORT", str(what.port))
    monkeypatch.setenv("SERVICES_DATA", str(what.folder.parent))
    monkeypatch.setenv(name, value)
    with connect(load(DatabaseSettings), "test") as conn:
        assert conn.info.port == what.port
    monkeypatch.setenv(name, value)
    assert what.ready()
