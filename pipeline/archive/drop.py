"""Drop old rows from the tables: complete chunks, and only those verified to be in files.

A chunk is dropped in the transaction that marks its spans as being in files only. No writer of the table can be between
its lock and its commit at that time, so what is checked there is final.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from pipeline.archive import ledger
from pipeline.archive.archive import Mismatch, check
from pipeline.archive.layout import Kind, Span
from pipeline.archive.rows import CANDLES
from pipeline.archive.storage import Storage
from pipeline.database import query
from pipeline.database.connection import Connection
from pipeline.database.sql import statement

TABLES: tuple[Kind, ...] = ("trades", "quotes")
_IN_NO_FILE = ("not archived", "changed since")
_WRITERS = {"trades": "trade_coverage", "quotes": "instruments"}  # of which every writer locks rows


@dataclass(frozen=True)
class Chunk:
    """A chunk of a hypertable: `[from_ts, to_ts)`."""

    kind: Kind
    from_ts: datetime
    to_ts: datetime


def old_chunks(conn: Connection, days: int) -> list[Chunk]:
    """Return the chunks entirely older than `days`, oldest first."""
    asked = (
        "SELECT hypertable_name AS kind, range_start AS from_ts, range_end AS to_ts FROM timescaledb_information.chunks"
        " WHERE hypertable_name = ANY(%s) AND range_end <= now() - %s * INTERVAL '1 day' ORDER BY 2, 1"
    )
    return query.rows(conn, Chunk, asked, (list(TABLES), days))


def held(conn: Connection, chunk: Chunk, days: int, *, without_archive: bool = False) -> list[str]:
    """Return why a chunk cannot be dropped; empty if all of it is in up-to-date files.

    `without_archive`: rows that are not archived do not prevent it.
    """
    asked = sql.SQL(statement("archive/held")).format(candles=sql.Identifier(CANDLES[chunk.kind]))
    rows = conn.execute(asked, {**_named(chunk), "horizon": _horizon(conn, days)}).fetchall()
    return [
        f"{chunk.kind} of {venue} {product} {day:%Y-%m-%d}: {why}"
        for venue, product, day, why in rows
        if not (without_archive and why in _IN_NO_FILE)
    ]


def verified(conn: Connection, storage: Storage, chunk: Chunk) -> list[str]:
    """Return the errors of the chunk's files: each is read completely and compared with ledger and table."""
    wrong = []
    changed = _spans(conn, chunk, "NOT up_to_date")
    for span in _spans(conn, chunk):
        file = ledger.current(conn, span)
        assert file is not None  # `archived` shows only spans that have one
        try:
            found = check(storage, file.path, span.layout)
        except Mismatch as error:
            wrong.append(f"{span}: {error}")
            continue
        counted = sql.SQL("SELECT count(*) FROM {} WHERE instrument_id = %s AND ts >= %s AND ts < %s")
        count = query.scalar(
            conn, counted.format(sql.Identifier(span.kind)), (span.instrument_id, span.from_ts, span.to_ts)
        )
        if (found.rows, found.hash) != (file.rows, file.hash):
            wrong.append(f"{span}: {file.path} is not the file that was archived")
        elif count != file.rows and span not in changed:
            wrong.append(f"{span}: the table has {count} rows, the file {file.rows}")
    return wrong


def drop(conn: Connection, chunk: Chunk, days: int, *, without_archive: bool = False) -> bool:
    """Drop a chunk; returns False if `held` has reasons by now. `without_archive`: also drop rows that are not
    archived.

    Raises `BUSY` if a long query reads the chunk: retry later, so that writers do not wait for it.
    """
    with conn.transaction():
        conn.execute("SET LOCAL lock_timeout = '2s'")
        conn.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(sql.Identifier(_WRITERS[chunk.kind])))
        if held(conn, chunk, days, without_archive=without_archive):
            return False
        if without_archive:
            _note_lost(conn, chunk)
        for span in _spans(conn, chunk):
            conn.execute(
                "UPDATE archive_spans SET in_tables = false, pinned_until = NULL"
                " WHERE instrument_id = %s AND kind = %s AND from_ts = %s",
                (span.instrument_id, span.kind, span.from_ts),
            )
            if span.from_ts < chunk.from_ts or span.to_ts > chunk.to_ts:
                ledger.delete_rows(conn, span)  # a month is dropped as a whole
        conn.execute(
            "SELECT drop_chunks(%(kind)s::regclass, older_than => %(to)s::timestamptz,"
            " newer_than => %(from)s::timestamptz)",
            _named(chunk),
        )
    return True


def _note_lost(conn: Connection, chunk: Chunk) -> None:
    """Record instruments whose dropped rows are in no file: only the ledger accounts for them."""
    conn.execute(
        sql.SQL(
            "UPDATE instruments i SET dropped_before = greatest(dropped_before, %(to)s) WHERE EXISTS ("
            " SELECT FROM {candles} c WHERE c.instrument_id = i.instrument_id AND c.bucket >= %(from)s"
            " AND c.bucket < %(to)s AND NOT EXISTS (SELECT FROM archive_spans s"
            " WHERE s.instrument_id = c.instrument_id AND s.kind = %(kind)s AND s.from_ts <= c.bucket"
            " AND s.to_ts > c.bucket AND s.archived_changes = s.changes))"
        ).format(candles=sql.Identifier(CANDLES[chunk.kind])),
        _named(chunk),
    )


def _spans(conn: Connection, chunk: Chunk, which: LiteralString = "true") -> list[Span]:
    condition = sql.SQL("kind = %(kind)s AND from_ts < %(to)s AND to_ts > %(from)s AND in_tables AND " + which)
    return ledger.spans(conn, condition, _named(chunk))


def _horizon(conn: Connection, days: int) -> datetime:
    moment: datetime = query.scalar(conn, "SELECT now() - %s * INTERVAL '1 day'", (days,))
    return moment


def _named(chunk: Chunk) -> dict[str, Any]:
    return {"kind": chunk.kind, "from": chunk.from_ts, "to": chunk.to_ts}


BUSY = psycopg.errors.LockNotAvailable
