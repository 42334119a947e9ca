"""Bring the database to the present tables: extension, numbered migrations, views, roles."""

from __future__ import annotations

import threading
from functools import partial
from typing import LiteralString

import psycopg

from pipeline import events
from pipeline.database import Connection, connect
from pipeline.errors import Unavailable, WrongUse
from pipeline.log import get_logger
from pipeline.process import keep_trying
from pipeline.settings import DatabaseSettings
from pipeline.sql import migrations, statement

OLDEST = (2, 19)
_LOCK = 0x6D64_6D69  # any constant: one migrator at a time


def migrate(conn: Connection) -> list[str]:
    """Apply what is missing, each in its own transaction; returns the names. Safe beside another migrator.

    Views and functions (`sql/views.sql`) are made anew when anything changed. Raises `WrongUse` for a server
    without TimescaleDB or with one that is too old.
    """
    applied: list[str] = []
    conn.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
    try:
        _extension(conn)
        _table(
            conn,
            "migrations",
            "number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()",
        )
        done = {row[0] for row in conn.execute("SELECT number FROM migrations")}
        for number, name, text in migrations():
            if number not in done:
                with conn.transaction():
                    conn.execute(text)
                    conn.execute("INSERT INTO migrations (number, name) VALUES (%s, %s)", (number, name))
                applied.append(name)
        _views(conn, anew=bool(applied))
    finally:
        if not conn.closed:
            conn.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
    return applied


def _table(conn: Connection, name: LiteralString, columns: LiteralString) -> None:
    """Make a table of our own where it is not there. A writer's role may not create any, and need not."""
    found = conn.execute("SELECT to_regclass(%s)", (name,)).fetchone()
    if found is None or found[0] is None:
        conn.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns})")


def _views(conn: Connection, *, anew: bool) -> None:
    """Replace the views and grant the roles' rights when their text is not the one in the database."""
    text = statement("views") + statement("roles")
    _table(conn, "views_text", "one boolean PRIMARY KEY DEFAULT true CHECK (one), text text")
    stored = conn.execute("SELECT text FROM views_text").fetchone()
    if anew or stored is None or stored[0] != text:
        with conn.transaction():
            conn.execute(text)
            conn.execute(
                "INSERT INTO views_text (text) VALUES (%s) ON CONFLICT (one) DO UPDATE SET text = excluded.text",
                (text,),
            )


def _extension(conn: Connection) -> None:
    row = conn.execute("SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'").fetchone()
    if row is None:
        raise WrongUse(
            "the database server has no TimescaleDB; install it, or unset DATABASE_URL to use the private one."
        )
    try:
        conn.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except psycopg.errors.InsufficientPrivilege:
        raise WrongUse(
            "the extension timescaledb is not in this database and this role may not create it; "
            "run CREATE EXTENSION timescaledb once as superuser."
        ) from None
    found = conn.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    version = str(found[0]) if found else "0"
    if tuple(int(part) for part in version.split("-")[0].split(".")[:2]) < OLDEST:
        raise WrongUse(
            f"TimescaleDB {version} is too old; 2.19 or later is needed (ALTER EXTENSION timescaledb UPDATE)."
        )


def _attempt(settings: DatabaseSettings) -> list[str]:
    try:
        with connect(settings, "migrate") as conn:
            conn.execute("SET lock_timeout = 0")  # another migrator may take its time
            return migrate(conn)
    except psycopg.OperationalError as error:
        raise Unavailable(f"the database went away: {str(error).strip()}") from None


def database_when_ready(settings: DatabaseSettings, stop: threading.Event) -> None:
    """Wait for the database and bring it up to date; returns early when stopped."""
    applied = keep_trying("database", partial(_attempt, settings), stop, retry_on=(Unavailable,))
    if applied:
        get_logger().info(events.MIGRATED, applied=applied)
