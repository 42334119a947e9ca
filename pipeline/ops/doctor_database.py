"""The doctor's checks of the database: versions, settings, tables, privileges."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg

from pipeline.core.errors import PipelineError
from pipeline.core.settings import DatabaseSettings, load
from pipeline.database import query
from pipeline.database.connection import Connection, connect
from pipeline.database.migrate import OLDEST
from pipeline.database.sql import migrations
from pipeline.ops.doctor_services import Finding, ok


def database() -> Iterator[Finding]:
    """Check connection, TimescaleDB's version, tables and important settings."""
    chosen = load(DatabaseSettings)
    start = "start it (scripts/start)" if chosen.private else "check DATABASE_URL"
    try:
        conn = connect(chosen, "doctor", read_only=True)
    except PipelineError as error:
        yield Finding("database", "failed", str(error).splitlines()[0], start)
        return
    with conn:
        number = query.scalar(conn, "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
        if number is None:
            yield Finding("database", "failed", "has no TimescaleDB", "run python -m pipeline.bootstrap")
            return
        if tuple(map(int, number.split("-")[0].split(".")[:2])) < OLDEST:
            yield Finding(
                "database", "failed", f"TimescaleDB {number} is too old", "ALTER EXTENSION timescaledb UPDATE"
            )
            return
        server, locks = (
            str(query.scalar(conn, "SELECT current_setting(%s)", (name,)))
            for name in ("server_version", "max_locks_per_transaction")
        )
        yield ok("database", f"PostgreSQL {server.split()[0]} with TimescaleDB {number}")
        yield from _alarms(conn, server, number)
        yield from _rights(conn)
        if int(locks) < 256:
            yield Finding(
                "database",
                "warning",
                f"max_locks_per_transaction is {locks}",
                "set it to 1024 and restart the server: a query over years locks every chunk",
            )
        try:
            done = set(query.scalars(conn, "SELECT number FROM migrations"))
        except psycopg.errors.UndefinedTable:
            done = set()
        missing = [name for number, name, _ in migrations() if number not in done]
        if later := sorted(done - {number for number, _, _ in migrations()}):
            text = f"of a later version than this checkout (migration {later[-1]})"
            yield Finding("tables", "failed", text, "git pull, then scripts/setup")
        elif missing:
            yield Finding("tables", "failed", f"not applied: {', '.join(missing)}", "run python -m pipeline.bootstrap")
        else:
            yield ok("tables", f"{len(done)} migrations applied")


def _alarms(conn: Connection, server: str, number: str) -> Iterator[Finding]:
    """Known defects of this combination of versions."""
    workers = query.scalar(conn, "SELECT current_setting('timescaledb.max_background_workers', true)")
    if int(workers or 0) > 0 and (fixed := jobs_fail(server, number)):
        yield Finding(
            "database",
            "warning",
            f"TimescaleDB {number} cannot run background jobs on PostgreSQL {server.split()[0]}: retention, compression"
            " and refresh policies fail (timescale/timescaledb#11015)",
            f"ALTER EXTENSION timescaledb UPDATE to {fixed} or later; the pipeline itself uses no such jobs",
        )
    if _numbers(number) == (2, 30, 0):
        yield Finding(
            "database",
            "failed",
            "TimescaleDB 2.30.0 gives rows twice from prepared queries with LIMIT (timescale/timescaledb#10584)",
            "ALTER EXTENSION timescaledb UPDATE to a later version",
        )


# From these minor releases of PostgreSQL on, every background job fails, except with a TimescaleDB fixed for it: one
# release in each maintained line. 2.29, 2.30 and 2.32.0 were never fixed.
_JOBS_FAIL_FROM = {15: 20, 16: 16, 17: 12, 18: 7}
_MENDED: dict[tuple[int, ...], tuple[int, ...]] = {
    (2, 27): (2, 27, 3),
    (2, 28): (2, 28, 5),
    (2, 31): (2, 31, 2),
    (2, 32): (2, 32, 1),
}


def jobs_fail(server: str, number: str) -> str | None:
    """Return the TimescaleDB required for background jobs on this PostgreSQL; None if this one works."""
    running, extension = _numbers(server), _numbers(number)
    if len(running) < 2 or running[1] < _JOBS_FAIL_FROM.get(running[0], running[1] + 1):
        return None
    line = extension[:2]
    needed = _MENDED.get(line) or next((of for one, of in _MENDED.items() if one > line), None)
    return None if needed is None or extension >= needed else ".".join(map(str, needed))


def _numbers(version: str) -> tuple[int, ...]:
    """(17, 12) of `17.12 (Debian 17.12-0+deb13u1)`, (2, 30, 0) of `2.30.0-dev`."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _rights(conn: Connection) -> Iterator[Finding]:
    """Check whether read-only roles can drop chunks through the extension; migrations by a superuser prevent it."""
    callable_by_all = query.scalar(
        conn,
        """
        SELECT count(*) FROM pg_proc p
        WHERE p.proname = 'drop_chunk' AND p.pronamespace::regnamespace::text LIKE '\\_timescaledb%%'
          AND has_function_privilege('public', p.oid, 'EXECUTE')
        """,
    )
    if callable_by_all:
        yield Finding(
            "rights",
            "warning",
            "every role that can connect can drop chunks through _timescaledb_functions.drop_chunk",
            "run sql/protect.sql as superuser in this database, again after each update of the extension",
        )
