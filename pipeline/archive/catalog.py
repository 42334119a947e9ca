"""The catalog: rows about files, written by SQL in the caller's transaction.

The format is DuckLake 1.0: plain tables of the schema `lake`. A commit is a snapshot; files start and end with one, so
an engine that asks for an older snapshot reads the versions of that time. The caller holds the archive's lock, so
snapshots are numbered by one writer at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from pipeline.archive.files import Written
from pipeline.archive.layout import Layout
from pipeline.database import query
from pipeline.database.connection import Connection

LOCK = 0x61726368
"""Class of the archive writer's advisory lock; an arbitrary constant."""


def lock(conn: Connection) -> bool:
    """Become the only writer of the archive while the connection lasts; returns False if there is another."""
    return bool(query.scalar(conn, "SELECT pg_try_advisory_lock(%s, 0)", (LOCK,)))


def unlock(conn: Connection) -> None:
    """Release the lock, before the server notices that the connection is closed."""
    conn.execute("SELECT pg_advisory_unlock(%s, 0)", (LOCK,))


def lock_writing(conn: Connection) -> None:
    """Announce that another program than the archive's own is writing files: its sweep leaves them alone."""
    conn.execute("SELECT pg_advisory_lock_shared(%s, 1)", (LOCK,))


def unlock_writing(conn: Connection) -> None:
    """End `lock_writing`: the files are committed, or abandoned."""
    conn.execute("SELECT pg_advisory_unlock_shared(%s, 1)", (LOCK,))


def nobody_writing(conn: Connection) -> bool:
    """Whether no other connection is writing files; if so, none can begin before this transaction ends."""
    asked = "SELECT pg_try_advisory_xact_lock(%(key)s, 0) AND pg_try_advisory_xact_lock(%(key)s, 1)"
    return bool(query.scalar(conn, asked, {"key": LOCK}))


def data_path(conn: Connection) -> str | None:
    """Return the files' location according to the catalog."""
    found: str | None = query.scalar(conn, "SELECT value FROM lake.ducklake_metadata WHERE key = 'data_path'")
    return found


def set_data_path(conn: Connection, address: str) -> None:
    """Set the files' location."""
    with conn.transaction():
        conn.execute("DELETE FROM lake.ducklake_metadata WHERE key = 'data_path'")
        conn.execute("INSERT INTO lake.ducklake_metadata (key, value) VALUES ('data_path', %s)", (address,))


@dataclass(frozen=True)
class Commit:
    """A snapshot in progress: `file_id` is available for one file."""

    conn: Connection
    snapshot: int
    file_id: int
    table_id: int


def begin(conn: Connection, layout: Layout) -> Commit:
    """Begin a snapshot that may add one file and end one, in the caller's transaction; others wait until it ends."""
    conn.execute("SELECT pg_advisory_xact_lock(%s, 2)", (LOCK,))
    row = conn.execute(
        "SELECT snapshot_id, schema_version, next_catalog_id, next_file_id FROM lake.ducklake_snapshot"
        " ORDER BY snapshot_id DESC LIMIT 1"
    ).fetchone()
    assert row is not None  # the migration made the first one
    snapshot, schema, next_catalog, file_id = row
    conn.execute(
        "INSERT INTO lake.ducklake_snapshot VALUES (%s, now(), %s, %s, %s)",
        (snapshot + 1, schema, next_catalog, file_id + 1),
    )
    return Commit(conn, snapshot + 1, file_id, layout.table_id)


def add(commit: Commit, layout: Layout, path: str, written: Written, venue: str, product_id: str) -> None:
    """Add a file. `path`: from `layout.new_path`."""
    conn, table = commit.conn, commit.table_id
    row = conn.execute(
        "UPDATE lake.ducklake_table_stats SET record_count = record_count + %(rows)s,"
        " next_row_id = next_row_id + %(rows)s, file_size_bytes = file_size_bytes + %(bytes)s"
        " WHERE table_id = %(table)s RETURNING next_row_id - %(rows)s",
        {"rows": written.rows, "bytes": written.bytes, "table": table},
    ).fetchone()
    assert row is not None
    conn.execute(
        "INSERT INTO lake.ducklake_data_file (data_file_id, table_id, begin_snapshot, path, path_is_relative,"
        " file_format, record_count, file_size_bytes, footer_size, row_id_start)"
        " VALUES (%s, %s, %s, %s, true, 'parquet', %s, %s, %s, %s)",
        (
            commit.file_id,
            table,
            commit.snapshot,
            path.removeprefix(f"main/{layout.kind}/"),
            written.rows,
            written.bytes,
            written.footer_bytes,
            row[0],
        ),
    )
    smallest = {"venue": venue, "product_id": product_id, **written.smallest}
    largest = {"venue": venue, "product_id": product_id, **written.largest}
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO lake.ducklake_file_column_stats (data_file_id, table_id, column_id, value_count, null_count,"
            " min_value, max_value) VALUES (%s, %s, %s, %s, 0, %s, %s)",
            [
                (commit.file_id, table, number, written.rows, _text(smallest[column.name]), _text(largest[column.name]))
                for number, column in enumerate(layout.all_columns, 1)
                if column.prunes
            ],
        )


def end(commit: Commit, file_id: int) -> None:
    """End the current version of a span."""
    commit.conn.execute(
        "UPDATE lake.ducklake_data_file SET end_snapshot = %s WHERE data_file_id = %s", (commit.snapshot, file_id)
    )
    commit.conn.execute(
        "UPDATE lake.ducklake_table_stats s SET record_count = s.record_count - f.record_count,"
        " file_size_bytes = s.file_size_bytes - f.file_size_bytes"
        " FROM lake.ducklake_data_file f WHERE f.data_file_id = %s AND s.table_id = f.table_id",
        (file_id,),
    )


def finish(commit: Commit, *, added: bool, ended: bool) -> None:
    """Record what the snapshot changed, like other writers of the format."""
    changes = [f"inserted_into_table:{commit.table_id}"] * added + [f"deleted_from_table:{commit.table_id}"] * ended
    commit.conn.execute(
        "INSERT INTO lake.ducklake_snapshot_changes (snapshot_id, changes_made) VALUES (%s, %s)",
        (commit.snapshot, ",".join(changes)),
    )


def forget(conn: Connection, file_id: int) -> None:
    """Remove an ended version, and the snapshots that would read it, before its file is deleted."""
    row = conn.execute(
        "DELETE FROM lake.ducklake_data_file WHERE data_file_id = %s AND end_snapshot IS NOT NULL"
        " RETURNING end_snapshot",
        (file_id,),
    ).fetchone()
    if row is None:
        return
    conn.execute("DELETE FROM lake.ducklake_file_column_stats WHERE data_file_id = %s", (file_id,))
    conn.execute("DELETE FROM lake.ducklake_snapshot_changes WHERE snapshot_id < %s", row)
    conn.execute("DELETE FROM lake.ducklake_snapshot WHERE snapshot_id < %s", row)


def _text(value: Any) -> str:
    """Format a value like DuckDB's statistics."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f+00")
    return format(value, "f") if isinstance(value, Decimal) else str(value)
