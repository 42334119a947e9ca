"""The archive's operations: archive a span, check a file, sweep leftovers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal

import pyarrow as pa

from pipeline.archive import catalog, files, ledger, merge, rows
from pipeline.archive.hash import RowsHash
from pipeline.archive.layout import Layout, Span
from pipeline.archive.storage import Storage
from pipeline.core import events
from pipeline.core.errors import PipelineError
from pipeline.core.log import get_logger
from pipeline.core.numeric import EXACT
from pipeline.database.connection import Connection

GRACE_S = 86_400.0
"""How long a replaced version stays readable, for running queries and for looking at yesterday's state."""


class Mismatch(PipelineError):
    """A file does not contain the expected rows: nothing is committed or dropped."""


@dataclass(frozen=True)
class Archived:
    """An archived span."""

    span: Span
    written: files.Written | None  # None: the file that was there holds the same rows


@dataclass(frozen=True)
class Checked:
    """The content of a file as read back."""

    rows: int
    hash: str
    sums: dict[str, Decimal]


def check(storage: Storage, path: str, layout: Layout) -> Checked:
    """Read a file completely. Raises `Mismatch` if it cannot be read."""
    digest = RowsHash(layout)
    names = layout.named("decimal")
    totals = dict.fromkeys(names, Decimal(0))
    try:
        for piece in files.read(storage.open(path), [column.name for column in layout.columns]):
            digest.update(piece)
            for name, value in merge.sums(piece, names).items():
                totals[name] = EXACT.add(totals[name], value)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise Mismatch(f"{path} cannot be read: {' '.join(str(error).split())[:300]}") from None
    return Checked(digest.rows, digest.hexdigest(), totals)


def remove(storage: Storage, path: str) -> None:
    """Remove a file that will not be committed, finished or not."""
    (storage.work / path.rpartition("/")[2]).unlink(missing_ok=True)
    storage.remove(path)


def clear_left_behind(conn: Connection, storage: Storage) -> int:
    """Remove files that killed writers did not commit, unless another program is writing; returns how many."""
    removed = 0
    with conn.transaction():
        if catalog.nobody_writing(conn):
            for span, path in ledger.left_behind(conn):
                remove(storage, path)
                ledger.not_writing(conn, span)
                removed += 1
    return removed


class Archive:
    """The archive of one database in one storage. `conn` must hold the archive's lock and have no statement timeout."""

    def __init__(self, conn: Connection, storage: Storage) -> None:
        self._conn = conn
        self._storage = storage

    def archive(self, span: Span) -> Archived | None:
        """Write a span's rows to a file and add it to the catalog. Returns None if they changed meanwhile: retry later.

        Raises `Mismatch`, `OSError` (disk full), and database errors; nothing has changed then.
        """
        begun = ledger.begin(self._conn, span)
        try:
            written, saw = self._write(begun)
            if written is None:
                remove(self._storage, begun.path)
            if not ledger.commit(self._conn, begun, written, saw):
                self._give_up(begun)
                return None
        except (Mismatch, OSError, pa.ArrowException):
            with suppress(OSError):
                self._give_up(begun)
            raise
        return Archived(span, written)

    def _write(self, begun: ledger.Begun) -> tuple[files.Written | None, ledger.Seen]:
        """Step 2: return the new file and the span as read. No file: the current one has the same rows."""
        span, conn = begun.span, self._conn
        old = ledger.current(conn, span)
        work = self._storage.work / begun.path.rpartition("/")[2]
        with conn.transaction():
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            saw = ledger.seen(conn, span)
            found = rows.survey(conn, span)
            if saw.in_tables or not found.rows:
                self._expect(span, found.rows if saw.in_tables or old is None else old.rows)
                if not found.rows:
                    return None, saw
                types, pieces = found.types, rows.pieces(conn, span, found.types)
            else:
                assert old is not None  # what is not in the tables has a file
                later = pa.concat_tables(rows.pieces(conn, span, found.types))
                whole = merge.merged(span, self.read(span, old), later, saw.replaced)
                self._expect(span, len(whole))
                types = merge.types_of(span, whole)
                pieces = merge.cast(whole, types, files.ROW_GROUP)
                found = rows.Survey(len(whole), merge.sums(whole, span.layout.named("decimal")), types)
            written = files.write(work, span, begun.revision, files.schema_of(span.layout, types), pieces)
        if old is not None and (written.hash, written.rows) == (old.hash, old.rows):
            return None, saw
        self._storage.keep(work, begun.path)
        checked = check(self._storage, begun.path, span.layout)
        if (checked.rows, checked.hash, checked.sums) != (found.rows, written.hash, found.sums):
            raise Mismatch(
                f"{span}: the file holds {checked.rows} rows with hash {checked.hash} and sums {checked.sums},"
                f" the table {found.rows}, {written.hash}, {found.sums}"
            )
        return written, saw

    def _expect(self, span: Span, count: int) -> None:
        """Raise `Mismatch` unless there are as many rows as were stored: a file of what somebody left of them would
        replace the one that has all."""
        stored = rows.counted(self._conn, span)
        if stored is not None and stored != count:
            raise Mismatch(
                f"{span}: there are {count:,} rows, and its candles are of {stored:,}: somebody deleted or added some;"
                " python -m pipeline.restore_ticks brings back what is in a file"
            )

    def read(self, span: Span, file: ledger.Current) -> pa.Table:
        """Return a file's rows, verified against the ledger. Raises `Mismatch`."""
        checked = check(self._storage, file.path, span.layout)
        if (checked.rows, checked.hash) != (file.rows, file.hash):
            raise Mismatch(f"{span}: {file.path} is not the file that was archived")
        return pa.concat_tables(files.read(self._storage.open(file.path)))

    def _give_up(self, begun: ledger.Begun) -> None:
        remove(self._storage, begun.path)
        ledger.not_writing(self._conn, begun.span)

    def sweep(self, grace_s: float = GRACE_S) -> int:
        """Remove files left by a killed writer, and replaced versions after their grace; returns how many."""
        removed = clear_left_behind(self._conn, self._storage)
        for file_id, path in ledger.ended(self._conn, grace_s):
            with self._conn.transaction():
                catalog.forget(self._conn, file_id)
            self._storage.remove(path)
            self._conn.execute("UPDATE archive_files SET deleted_at = now() WHERE file_id = %s", (file_id,))
            removed += 1
        if removed:
            get_logger().info(events.ARCHIVE_SWEPT, files=removed)
        return removed
