"""Migrate the database: extension, numbered migrations, views, roles."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import LiteralString

import psycopg
from psycopg import errors as pg
from psycopg import sql

from pipeline.core import events
from pipeline.core.errors import Unavailable, WrongUse
from pipeline.core.log import get_logger
from pipeline.core.retry import keep_trying
from pipeline.core.settings import ADMIN_ROLE, OWNER_ROLE, DatabaseSettings
from pipeline.database import query
from pipeline.database.connection import Connection, connect, transient
from pipeline.database.sql import migrations, statement

OLDEST = (2, 19)
# Errors of concurrent migrators creating the same object.
_AT_ONCE = (pg.UniqueViolation, pg.DuplicateObject, pg.DuplicateTable, pg.InternalError_)


def migrate(conn: Connection) -> list[str]:
    """Apply missing migrations, each in its own transaction; returns their names. Safe to run concurrently.

    Views and functions (`sql/views.sql`) are recreated if anything changed. Default privileges are revoked every time,
    because an update of the extension grants them again. Raises `WrongUse` if TimescaleDB is missing or too old, or the
    tables are those of a later version, and `Unavailable` if another migrator interfered: then retry.
    """
    applied: list[str] = []
    with _concurrently():
        _extension(conn)
        owner = _owner(conn)
        if owner is not None:
            with conn.transaction():
                conn.execute(statement("hand_over"))
        _table(
            conn,
            owner,
            "migrations",
            "number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()",
        )
        _table(conn, owner, "views_text", "one boolean PRIMARY KEY DEFAULT true CHECK (one), text text")
    ours = migrations()
    if later := sorted(_done(conn) - {number for number, _, _ in ours}):
        raise WrongUse(
            f"the tables of the database are of a later version than this checkout (migration {later[-1]}; the last one"
            f" here is {ours[-1][1]}); update it: git pull, then scripts/setup."
        )
    for number, name, text in ours:
        if number in _done(conn):
            continue
        with _exclusively(conn, owner):
            if number not in _done(conn):
                conn.execute(text)
                conn.execute("INSERT INTO migrations (number, name) VALUES (%s, %s)", (number, name))
                applied.append(name)
    _views(conn, owner, recreate=bool(applied))
    protect(conn)
    return applied


def protect(conn: Connection) -> None:
    """Revoke unneeded default privileges (`sql/protect.sql`). Does nothing unless we are superuser."""
    if query.scalar(conn, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        with _exclusively(conn, None):
            conn.execute(statement("protect"))


@contextmanager
def _concurrently() -> Iterator[None]:
    """Context for the steps before there is a table to lock: errors of concurrent migrators become `Unavailable`."""
    try:
        yield
    except _AT_ONCE as error:
        raise Unavailable(f"another program is migrating the database: {str(error).strip()}") from None


def _done(conn: Connection) -> set[int]:
    return set(query.scalars(conn, "SELECT number FROM migrations"))


def _owner(conn: Connection) -> str | None:
    """Return the role that should own the tables if we are superuser of the private database; otherwise None."""
    row = conn.execute(
        "SELECT rolsuper, pg_get_userbyid(datdba) FROM pg_roles, pg_database"
        " WHERE rolname = current_user AND datname = current_database()"
    ).fetchone()
    return OWNER_ROLE if row == (True, OWNER_ROLE) else None


def _take_over(conn: Connection) -> None:
    """Make our role own the private database also if somebody created it anew, to restore a dump into it."""
    asked = "SELECT current_database() FROM pg_database WHERE datname = current_database() AND datdba <> %s::regrole"
    if (name := query.scalar(conn, asked, (OWNER_ROLE,))) is not None:
        with _concurrently():
            conn.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(*map(sql.Identifier, (name, OWNER_ROLE))))


@contextmanager
def _exclusively(conn: Connection, owner: str | None) -> Iterator[None]:
    """A transaction as the tables' owner that excludes other migrators.

    It takes a table lock, which requires write permission: an advisory lock could be held forever by a read-only role
    and would block every start.
    """
    with conn.transaction():
        if owner is not None:
            conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(owner)))
        conn.execute("LOCK TABLE migrations IN SHARE ROW EXCLUSIVE MODE")
        conn.execute("SET LOCAL lock_timeout = '30s'")  # while we wait for a reader, the writers wait behind us
        yield


def _table(conn: Connection, owner: str | None, name: LiteralString, columns: LiteralString) -> None:
    """Create a table of the migrations themselves if it is missing. A writer's role may not create tables, so it is
    not even tried if the table exists."""
    if query.scalar(conn, "SELECT to_regclass(%s)", (name,)) is None:
        with conn.transaction():
            if owner is not None:
                conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(owner)))
            conn.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns})")


def _views(conn: Connection, owner: str | None, *, recreate: bool) -> None:
    """Replace the views and grant the roles' privileges if their text differs from the database's, or `recreate`."""
    text = statement("views") + statement("roles")
    if not recreate and _views_text(conn) == text:
        return
    with _exclusively(conn, owner):
        if recreate or _views_text(conn) != text:
            try:
                with conn.transaction():
                    conn.execute(statement("views"))
            except pg.InvalidTableDefinition:  # their columns have changed
                conn.execute(statement("views_drop"))
                conn.execute(statement("views"))
            conn.execute(
                "INSERT INTO views_text (text) VALUES (%s) ON CONFLICT (one) DO UPDATE SET text = excluded.text",
                (text,),
            )
            conn.execute("SET LOCAL ROLE NONE")  # only a superuser may create roles
            conn.execute(statement("roles"))


def _views_text(conn: Connection) -> str | None:
    text: str | None = query.scalar(conn, "SELECT text FROM views_text")
    return text


def _extension(conn: Connection) -> None:
    if not query.scalars(conn, "SELECT name FROM pg_available_extensions WHERE name = 'timescaledb'"):
        raise WrongUse(
            "the database server has no TimescaleDB; install it, or unset DATABASE_URL to use the private one."
        )
    try:
        conn.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except psycopg.errors.InsufficientPrivilege:
        raise WrongUse(
            "the extension timescaledb is not installed in this database and this role may not create it; "
            "run CREATE EXTENSION timescaledb once as superuser."
        ) from None
    version = str(query.scalar(conn, "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'") or "0")
    if tuple(int(part) for part in version.split("-")[0].split(".")[:2]) < OLDEST:
        raise WrongUse(
            f"TimescaleDB {version} is too old; 2.19 or later is needed (ALTER EXTENSION timescaledb UPDATE)."
        )


def _attempt(settings: DatabaseSettings) -> list[str]:
    try:
        with connect(settings, "migrate", role=ADMIN_ROLE) as conn:
            conn.execute("SET lock_timeout = 0; SET statement_timeout = 0")  # another migrator may take long
            if settings.private:
                _take_over(conn)
            return migrate(conn)
    except psycopg.Error as error:
        if not transient(error):
            raise
        text = " ".join(str(error).split())
        raise Unavailable(f"the tables cannot be brought up to date now: {text}") from None


def database_when_ready(settings: DatabaseSettings, stop: threading.Event) -> None:
    """Wait for the database and migrate it; returns early when stopped."""
    applied = keep_trying("database", partial(_attempt, settings), stop, retry_on=(Unavailable,))
    if applied:
        get_logger().info(events.MIGRATED, applied=applied)
