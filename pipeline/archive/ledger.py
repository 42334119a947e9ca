"""The archive's ledger, `archive_spans` and `archive_files`, changed together with the catalog in one transaction.

Three steps; the process may die after each:

1. `begin` locks the instrument as its writers do, makes the row of the span and notes the path. Every writer that comes
   later sees the row and counts its changes; every one that came before has committed, and its rows are seen.
2. The rows are read, written as a file and read back.
3. `commit` locks the instrument again. Were there changes since, the file is worth nothing; else file, catalog and
   ledger are one transaction.

A row of `archive_spans` is only changed under that lock: writers find theirs by its place in the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql
from psycopg.types.multirange import Multirange

from pipeline.archive import catalog
from pipeline.archive.files import Written
from pipeline.archive.layout import Kind, Span, new_path
from pipeline.database import query
from pipeline.database.connection import Connection

_LOCKS: dict[Kind, str] = {
    "trades": "SELECT FROM trade_coverage WHERE instrument_id = %s FOR UPDATE",
    "quotes": "SELECT FROM instruments WHERE instrument_id = %s FOR UPDATE",
    "exchange_candles": "SELECT FROM instruments WHERE instrument_id = %s FOR UPDATE",
}
"""Locks that exclude each kind's writers (`sql/trades_lock.sql`, `instruments_lock.sql`, `instruments_share.sql`)."""


@dataclass(frozen=True)
class Current:
    """The current version of a span in the catalog."""

    file_id: int
    path: str
    revision: int
    hash: str
    rows: int


@dataclass(frozen=True)
class Begun:
    """A span being archived. `path`: of the new file."""

    span: Span
    path: str
    revision: int


def lock_rows(conn: Connection, span: Span) -> None:
    """Lock out the writers of the span's instrument until the transaction ends."""
    conn.execute(_LOCKS[span.kind], (span.instrument_id,))


def current(conn: Connection, span: Span) -> Current | None:
    """Return the version in the catalog, or None."""
    asked = (
        "SELECT file_id, path, revision, hash, rows FROM archive_files WHERE instrument_id = %s AND kind = %s"
        " AND from_ts = %s AND ended_at IS NULL"
    )
    return query.row(conn, Current, asked, _key(span))


def begin(conn: Connection, span: Span) -> Begun:
    """Step 1. After its commit every change to the span's rows is counted."""
    with conn.transaction():
        lock_rows(conn, span)
        # A month that became days or days that became a month, before any was archived.
        conn.execute(
            "DELETE FROM archive_spans s WHERE instrument_id = %(id)s AND kind = %(kind)s AND from_ts < %(to)s"
            " AND to_ts > %(from)s AND (from_ts, to_ts) <> (%(from)s, %(to)s) AND archived_changes IS NULL",
            _named(span),
        )
        asked = (
            "SELECT coalesce(max(revision) + 1, 0) FROM archive_files WHERE instrument_id = %s AND kind = %s"
            " AND from_ts = %s"
        )
        revision: int = query.scalar(conn, asked, _key(span))
        path = new_path(span, revision)
        conn.execute(
            "INSERT INTO archive_spans (instrument_id, kind, from_ts, to_ts, writing)"
            " VALUES (%(id)s, %(kind)s, %(from)s, %(to)s, %(path)s)"
            " ON CONFLICT (instrument_id, kind, from_ts) DO UPDATE SET writing = excluded.writing",
            {**_named(span), "path": path},
        )
    return Begun(span, path, revision)


@dataclass(frozen=True)
class Seen:
    """A span in a snapshot: how often its rows changed, and whether the table has all of them or only later ones.

    `replaced`: hours of which the later rows take the place of those in the file.
    """

    changes: int
    in_tables: bool
    replaced: Multirange[datetime]


def seen(conn: Connection, span: Span) -> Seen:
    """Read the span's state. Call it in the snapshot in which the rows are read."""
    asked = (
        "SELECT changes, in_tables, replaced FROM archive_spans WHERE instrument_id = %s AND kind = %s AND from_ts = %s"
    )
    found = query.row(conn, Seen, asked, _key(span))
    assert found is not None  # made by `begin`, and nobody else takes it away
    return found


def commit(conn: Connection, begun: Begun, written: Written | None, saw: Seen) -> bool:
    """Step 3. `saw`: the span's state when its rows were read. Returns False, with nothing done, if it has changed.

    `written`: None if the current file has the same rows. Rows of a span that the table does not keep are in the file
    now, and are deleted from the table.
    """
    span = begun.span
    with conn.transaction():
        lock_rows(conn, span)
        if seen(conn, span) != saw:
            return False
        if written is not None:
            _new_version(conn, begun, written)
        # A span without rows and without a file is none.
        conn.execute(
            "UPDATE archive_spans s SET writing = NULL, replaced = '{}', archived_changes ="
            " CASE WHEN EXISTS (SELECT FROM archive_files f WHERE (f.instrument_id, f.kind, f.from_ts)"
            " = (s.instrument_id, s.kind, s.from_ts) AND f.ended_at IS NULL) THEN %s::bigint END"
            " WHERE instrument_id = %s AND kind = %s AND from_ts = %s",
            (saw.changes, *_key(span)),
        )
        if not saw.in_tables:
            delete_rows(conn, span)
    return True


def _new_version(conn: Connection, begun: Begun, written: Written) -> None:
    span, layout = begun.span, begun.span.layout
    old = current(conn, span)
    made = catalog.begin(conn, layout)
    if old is not None:
        catalog.end(made, old.file_id)
        conn.execute("UPDATE archive_files SET ended_at = now() WHERE file_id = %s", (old.file_id,))
    catalog.add(made, layout, begun.path, written, span.venue, span.product_id)
    catalog.finish(made, added=True, ended=old is not None)
    conn.execute(
        "INSERT INTO archive_files (file_id, instrument_id, kind, from_ts, revision, path, rows, bytes, hash,"
        " first_ts, last_ts, first_id, last_id)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            made.file_id,
            *_key(span),
            begun.revision,
            begun.path,
            written.rows,
            written.bytes,
            written.hash,
            written.smallest[layout.time],
            written.largest[layout.time],
            written.smallest.get("trade_id"),
            written.largest.get("trade_id"),
        ),
    )


def begin_direct(conn: Connection, spans: Sequence[Span]) -> dict[Span, Begun]:
    """Step 1 for days of quotes bypassing the table: those unknown to ledger and archive."""
    found = {}
    with conn.transaction():
        for span in sorted(spans, key=lambda span: (span.instrument_id, span.from_ts)):
            lock_rows(conn, span)
            path = new_path(span, 0)
            made = conn.execute(
                "INSERT INTO archive_spans (instrument_id, kind, from_ts, to_ts, writing)"
                " SELECT %(id)s, %(kind)s, %(from)s, %(to)s, %(path)s"
                " WHERE NOT EXISTS (SELECT FROM quote_hours WHERE instrument_id = %(id)s AND hour >= %(from)s"
                "   AND hour < %(to)s AND ticks > 0)"
                " AND NOT EXISTS (SELECT FROM archive_spans WHERE instrument_id = %(id)s AND kind = %(kind)s"
                "   AND from_ts < %(to)s AND to_ts > %(from)s AND (from_ts, to_ts) <> (%(from)s, %(to)s))"
                # begun before by a writer that was killed, and cleared since
                " ON CONFLICT (instrument_id, kind, from_ts) DO UPDATE SET writing = excluded.writing"
                " WHERE archive_spans.writing IS NULL AND archive_spans.archived_changes IS NULL"
                "   AND archive_spans.changes = 0",
                {**_named(span), "path": path},
            )
            if made.rowcount:
                found[span] = Begun(span, path, 0)
    return found


def commit_direct(conn: Connection, begun: Begun, written: Written) -> bool:
    """Step 3 for such a day, in the transaction of its candles and hours. Returns False if rows of it were stored."""
    if seen(conn, begun.span) != Seen(0, True, Multirange()):
        return False
    _new_version(conn, begun, written)
    conn.execute(
        "UPDATE archive_spans SET writing = NULL, archived_changes = 0, in_tables = false"
        " WHERE instrument_id = %s AND kind = %s AND from_ts = %s",
        _key(begun.span),
    )
    return True


def delete_rows(conn: Connection, span: Span) -> None:
    """Delete the span's rows from the table, in a transaction in which they are verified to be in the file."""
    conn.execute(
        sql.SQL("DELETE FROM {table} WHERE instrument_id = %(id)s AND {time} >= %(from)s AND {time} < %(to)s").format(
            table=sql.Identifier(span.kind), time=sql.Identifier(span.layout.time)
        ),
        _named(span),
    )


def left_behind(conn: Connection) -> list[tuple[Span, str]]:
    """Return spans and paths of files that a previous writer did not commit. Requires the archive's lock."""
    rows = conn.execute(
        "SELECT instrument_id, venue, product_id, kind, from_ts, to_ts, writing"
        " FROM archive_spans JOIN instruments USING (instrument_id) WHERE writing IS NOT NULL"
    )
    return [(Span(*row[:6]), row[6]) for row in rows]


def not_writing(conn: Connection, span: Span) -> None:
    """Record that the span's uncommitted file was removed."""
    with conn.transaction():
        lock_rows(conn, span)
        conn.execute(
            "UPDATE archive_spans SET writing = NULL WHERE instrument_id = %s AND kind = %s AND from_ts = %s",
            _key(span),
        )


def ended(conn: Connection, grace_s: float) -> list[tuple[int, str]]:
    """Return file id and path of replaced versions after their grace."""
    rows = conn.execute(
        "SELECT file_id, path FROM archive_files WHERE deleted_at IS NULL"
        " AND ended_at <= now() - %s * INTERVAL '1 second' ORDER BY file_id",
        (grace_s,),
    )
    return [(row[0], row[1]) for row in rows]


def spans(conn: Connection, condition: sql.SQL, values: dict[str, Any]) -> list[Span]:
    """Return archived spans matching a condition over `archived a`, oldest first."""
    asked = sql.SQL(
        "SELECT instrument_id, venue, product_id, kind, from_ts, to_ts FROM archived a WHERE {} ORDER BY from_ts"
    )
    return query.rows(conn, Span, asked.format(condition), values)


def _key(span: Span) -> tuple[int, str, datetime]:
    return span.instrument_id, span.kind, span.from_ts


def _named(span: Span) -> dict[str, Any]:
    return {"id": span.instrument_id, "kind": span.kind, "from": span.from_ts, "to": span.to_ts}


def up_to_date(conn: Connection, span: Span) -> bool:
    """Whether the current file has all rows."""
    asked = (
        "SELECT archived_changes = changes FROM archive_spans WHERE instrument_id = %s AND kind = %s AND from_ts = %s"
    )
    return bool(query.scalar(conn, asked, _key(span)))


def back_in_tables(conn: Connection, span: Span, until: datetime) -> None:
    """Record that the table has all rows again and keeps them until then. Requires the writers' lock."""
    conn.execute(
        "UPDATE archive_spans SET in_tables = true, pinned_until = %s"
        " WHERE instrument_id = %s AND kind = %s AND from_ts = %s",
        (until, *_key(span)),
    )


def pin(conn: Connection, span: Span, until: datetime) -> None:
    """Protect the span from retention until then. Requires the writers' lock."""
    conn.execute(
        "UPDATE archive_spans SET pinned_until = greatest(pinned_until, %s)"
        " WHERE instrument_id = %s AND kind = %s AND from_ts = %s",
        (until, *_key(span)),
    )
