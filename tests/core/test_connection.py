"""The sessions of the database: what neither the environment of a program nor an administrator can change."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo, sql

from pipeline.core.errors import Unavailable, WrongUse
from pipeline.core.settings import DatabaseSettings, load
from pipeline.database.connection import connect
from pipeline.services.database import Database
from pipeline.services.instance import Instance, Service
from pipeline.services.processes import free_ports

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


# What administrators set for a role or a database, and what it must be in our sessions.
OTHERS = {
    "statement_timeout": ("1ms", "2min"),
    "lock_timeout": ("1ms", "30s"),
    "idle_in_transaction_session_timeout": ("1ms", "30s"),
    "idle_session_timeout": ("1ms", "0"),
    "transaction_timeout": ("1s", "0"),
    "default_transaction_isolation": ("repeatable read", "read committed"),
    "synchronous_commit": ("off", "on"),
    "timezone": ("Asia/Kolkata", "UTC"),
    "datestyle": ("SQL, DMY", "ISO, MDY"),
    "intervalstyle": ("iso_8601", "postgres"),
}


def setting(url: str, name: str, value: str) -> None:
    """As an administrator does it; for a session that is not troubled by what is set already."""
    database = str(conninfo.conninfo_to_dict(url)["dbname"])
    with psycopg.connect(url, dbname="postgres", autocommit=True) as conn:
        conn.execute(
            sql.SQL("ALTER DATABASE {} SET {} = {}").format(sql.Identifier(database), sql.SQL(name), sql.Literal(value))
        )


def test_what_an_administrator_sets_does_not_change_what_is_promised(
    in_env: Callable[..., None], database_url: str
) -> None:
    """Prevents: acknowledged rows that die with the server, a decision under a lock by what was there before the lock,
    a load that loses its turn while it waits for the venue."""
    in_env(DATABASE_URL=database_url)
    for name, (theirs, _) in OTHERS.items():
        setting(database_url, name, theirs)
    with connect(load(DatabaseSettings), "test") as conn:
        assert {name: conn.execute(f"SHOW {name}").fetchone() for name in OTHERS} == {
            name: (ours,) for name, (_, ours) in OTHERS.items()
        }


def test_the_options_of_the_address_count(in_env: Callable[..., None], database_url: str) -> None:
    """Prevents a word of DATABASE_URL that is silently left out, such as the one that names the schema."""
    in_env(DATABASE_URL=f"{database_url}?options=-c%20search_path%3Dmine,public%20-c%20timezone%3DAsia/Kolkata")
    with connect(load(DatabaseSettings), "test") as conn:
        assert conn.execute("SELECT current_setting('search_path'), current_setting('timezone')").fetchone() == (
            "mine,public",
            "UTC",
        )


class _WithSocket(Database):
    """The database as it is by default elsewhere: over a socket too."""

    def _settings(self) -> dict[str, str]:
        return super()._settings() | {"unix_socket_directories": str(self.folder.parent / "s")}

    def _hba(self) -> str:
        return super()._hba() + "local all postgres scram-sha-256\nlocal all all peer\n"


def test_an_address_with_a_socket(in_env: Callable[..., None]) -> None:
    """Prevents programs that wait for ever with a wrong password, and say so every ten seconds, because the address
    names a socket."""
    with tempfile.TemporaryDirectory(prefix="s-") as name:  # the path of a socket is limited to some 100 characters
        folder, (port,) = Path(name), free_ports(1)
        (folder / "s").mkdir(mode=0o777)
        folder.chmod(0o711)
        (folder / "s").chmod(0o777)
        database = _WithSocket(folder / "database", port, "384m", False)
        service = Service(database)
        try:
            service.start()
            place = f"?host={folder}/s&port={port}"
            in_env(DATABASE_URL=database.url().replace(f"127.0.0.1:{port}", "") + place)
            connect(load(DatabaseSettings), "test").close()
            for wrong in (
                f"postgresql://postgres:wrong@/market_data{place}",
                f"postgresql://nobody@/market_data{place}",
            ):
                in_env(DATABASE_URL=wrong)
                with pytest.raises(WrongUse, match="authentication failed"):
                    connect(load(DatabaseSettings), "test")
        finally:
            service.stop()


def test_nobody_works_on_a_database_that_is_being_restored(in_env: Callable[..., None], database_url: str) -> None:
    """Prevents letters about every row that comes while a dump is restored: the database refuses them all, with the
    same kind of error as a bad row."""
    in_env(DATABASE_URL=database_url)
    setting(database_url, "timescaledb.restoring", "on")
    with pytest.raises(Unavailable, match="timescaledb_post_restore"):
        connect(load(DatabaseSettings), "test")
    setting(database_url, "timescaledb.restoring", "off")
    connect(load(DatabaseSettings), "test").close()
