"""The sessions of the database: what the environment of a program cannot change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from psycopg import conninfo

from pipeline.core.settings import PRIVATE_DATABASE, DatabaseSettings, load
from pipeline.database.connection import connect

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


def test_the_address_of_the_private_database_leaves_nothing_to_the_environment(
    in_env: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents programs that ask another server (PGHOSTADDR), or none because it has no TLS (PGSSLMODE)."""
    in_env()
    monkeypatch.delenv("DATABASE_URL", raising=False)
    given = conninfo.conninfo_to_dict(load(DatabaseSettings).conninfo)
    assert given.items() >= PRIVATE_DATABASE.items()
    # Those that libpq would take from the environment and that decide where a connection goes, or whether there is one.
    deciding = {"host", "hostaddr", "port", "dbname", "user", "passfile", "sslmode", "gssencmode", "channel_binding"}
    assert given.keys() >= deciding | {"target_session_attrs"}
