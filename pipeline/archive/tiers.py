"""Where the rows of an interval are: in files, in the table, or in both, so that each row is read once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from pipeline.archive.layout import Kind, Span
from pipeline.archive.storage import Storage
from pipeline.core.errors import Unavailable
from pipeline.database.connection import Connection


@dataclass(frozen=True)
class File:
    """A file with a complete span. `rows`, `revision`: by the ledger."""

    span: Span
    path: str
    rows: int
    revision: int


@dataclass(frozen=True)
class Part:
    """An interval `[from_ts, to_ts)` whose rows are all in the table (no `file`), in the file, or in both.

    `later`: the table has newer rows of the file's span, to be merged by `archive.merge`.
    """

    from_ts: datetime
    to_ts: datetime
    file: File | None = None
    later: bool = False


@contextmanager
def snapshot(conn: Connection, kind: Kind) -> Iterator[None]:
    """Context manager: a read-only transaction in which ledger and table are consistent.

    A snapshot alone does not suffice: a dropped chunk is gone for older snapshots too. So the table and its chunks are
    locked before the snapshot is taken: a drop has either happened before or waits until the transaction ends.
    """
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.Identifier(kind)))
        yield


def parts(
    conn: Connection, storage: Storage, kind: Kind, instrument_id: int, from_ts: datetime, to_ts: datetime
) -> list[Part]:
    """Return the parts of `[from_ts, to_ts)`, in order and without gaps. Call it inside `snapshot`.

    An up-to-date file is preferred even if the table has the same rows, because it is read ten times as fast. Raises
    `Unavailable` if rows are only in files that are missing or out of reach.
    """
    found = conn.execute(
        "SELECT venue, product_id, from_ts, to_ts, path, rows, revision, up_to_date, in_tables FROM archived"
        " WHERE instrument_id = %s AND kind = %s AND to_ts > %s AND from_ts < %s AND (up_to_date OR NOT in_tables)"
        " ORDER BY from_ts",
        (instrument_id, kind, from_ts, to_ts),
    ).fetchall()
    if found and (why := _not_there(storage, found[-1][4])):
        found = [row for row in found if not row[8]]
        if found:
            raise Unavailable(f"{kind} of {found[0][0]} {found[0][1]} are in files of the archive that {why}")
    made: list[Part] = []
    at = from_ts
    for venue, product_id, begin, end, path, rows, revision, up_to_date, _ in found:
        if at < begin:
            made.append(Part(at, begin))
        span = Span(instrument_id, venue, product_id, kind, begin, end)
        made.append(Part(max(at, begin), min(end, to_ts), File(span, path, rows, revision), later=not up_to_date))
        at = made[-1].to_ts
    if at < to_ts:
        made.append(Part(at, to_ts))
    return made


def _not_there(storage: Storage, path: str) -> str | None:
    """Return what is wrong with a storage that does not have this file; None if it has."""
    try:
        if storage.has(path):
            return None
    except OSError as error:
        return f"{storage.address} does not give at the moment: {' '.join(str(error).split())[:300]}"
    return f"are not in {storage.address}: set ARCHIVE_PATH to where they are."
