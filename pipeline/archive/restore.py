"""Restore the rows of a file into the database's table."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from psycopg import sql

from pipeline.archive import files, ledger, rows
from pipeline.archive.archive import Mismatch, check
from pipeline.archive.hash import integers
from pipeline.archive.layout import WORDS, Column, Span
from pipeline.archive.storage import Storage
from pipeline.core.errors import Unavailable
from pipeline.core.numeric import EXACT
from pipeline.database.connection import Connection
from pipeline.database.copy import Field, Int8, Scaled, Split, Time, write
from pipeline.database.copy import rows as copy_rows

_STAGED = {"time": "timestamptz", "decimal": "numeric"}
_ENUMS = {"side": "taker_side", "origin": "origin"}


def restore(conn: Connection, storage: Storage, span: Span, until: datetime) -> int:
    """Restore a span, to be kept in the table until then; returns the number of rows.

    Runs in one transaction, which only commits if the table has exactly the file's rows. Of a span that is in the table
    the hours are restored that somebody deleted. Raises `Mismatch` if file, ledger and table disagree, `Unavailable` if
    the span has later rows that are not archived yet.
    """
    layout = span.layout
    with conn.transaction():
        ledger.lock_rows(conn, span)
        in_tables, count = ledger.seen(conn, span).in_tables, rows.survey(conn, span).rows
        if in_tables and rows.counted(conn, span) in (None, count):
            ledger.pin(conn, span, until)
            return 0
        if not in_tables and not ledger.up_to_date(conn, span):
            raise Unavailable(
                f"{span} has later rows that are in no file yet; archive them first: python -m consumers.archive --once"
            )
        file = ledger.current(conn, span)
        assert file is not None  # what is not in the tables has a file, and only what has one is asked for
        checked = check(storage, file.path, layout)
        if (checked.rows, checked.hash) != (file.rows, file.hash):
            raise Mismatch(f"{span}: {file.path} is not the file that was archived")
        _insert(conn, storage, span, file.path, only_deleted=in_tables)
        found = rows.survey(conn, span)
        if in_tables and found.rows != rows.counted(conn, span):
            raise Mismatch(f"{span}: with the rows of its file the table has {found.rows}, its candles are of others")
        if not in_tables and (found.rows, found.sums) != (checked.rows, checked.sums):
            raise Mismatch(f"{span}: the file holds {checked.rows} rows, the table has {found.rows} after the restore")
        ledger.back_in_tables(conn, span, until)
    return found.rows - count


def _insert(conn: Connection, storage: Storage, span: Span, path: str, *, only_deleted: bool) -> None:
    """`only_deleted`: the rows of hours of which the table has other ones than the candles say, that it does not
    have."""
    columns = span.layout.columns
    names = [column.name for column in columns]
    staged = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(_STAGED.get(column.type, "bigint")))
        for column in columns
    )
    conn.execute(sql.SQL("CREATE TEMP TABLE restored ({}) ON COMMIT DROP").format(staged))
    with conn.cursor().copy("COPY restored FROM STDIN (FORMAT BINARY)") as copy:
        pieces = files.read(storage.open(path), names)
        write(copy, (copy_rows([_field(piece[c.name], c) for c in columns]) for piece in pieces))
    which: sql.Composable = sql.SQL("")
    if only_deleted:
        which = sql.SQL(
            "WHERE EXISTS (SELECT FROM {candles} c WHERE c.instrument_id = {id}"
            " AND c.bucket = time_bucket('1 hour', restored.{time})"
            " AND c.ticks <> (SELECT count(*) FROM {table} t WHERE t.instrument_id = {id}"
            " AND t.{time} >= c.bucket AND t.{time} < c.bucket + INTERVAL '1 hour'))"
        ).format(
            candles=sql.Identifier(rows.CANDLES[span.kind]),
            table=sql.Identifier(span.kind),
            time=sql.Identifier(span.layout.time),
            id=sql.Literal(span.instrument_id),
        )
    conn.execute(
        sql.SQL("INSERT INTO {} (instrument_id, {}) SELECT %s, {} FROM restored {} ORDER BY {} {}").format(
            sql.Identifier(span.kind),
            sql.SQL(", ").join(map(sql.Identifier, names)),
            sql.SQL(", ").join(map(_value, columns)),
            which,
            sql.SQL(", ").join(map(sql.Identifier, span.layout.order)),
            sql.SQL("ON CONFLICT DO NOTHING" if only_deleted else ""),
        ),
        (span.instrument_id,),
    )


def _value(column: Column) -> sql.Composable:
    name = sql.Identifier(column.name)
    if column.type not in _ENUMS:
        return name
    return sql.SQL("({}::{}[])[{} + 1]").format(
        sql.Literal(list(WORDS[column.type])), sql.SQL(_ENUMS[column.type]), name
    )


def _field(values: pa.ChunkedArray, column: Column) -> Field:
    """Return a column for COPY; integers and positions in lists of words as int8."""
    if column.type == "decimal":
        return _decimals(values)
    found = integers(values, column.type)
    return Time(found) if column.type == "time" else Int8(found)


def _decimals(values: pa.ChunkedArray) -> Field:
    type_ = values.type
    if type_.precision <= 18:
        array: Any = values.combine_chunks()
        low = np.frombuffer(array.buffers()[1], dtype="<i8")[::2][array.offset : array.offset + len(array)]
        return Scaled(low.astype(np.int64), type_.scale)
    parts = [(int(value), value) for value in values.to_pylist()]
    fraction = [int(EXACT.scaleb(EXACT.subtract(value, Decimal(whole)), 18)) for whole, value in parts]
    decimals = [max(0, -int(value.normalize(EXACT).as_tuple().exponent)) for _, value in parts]
    whole = np.array([whole for whole, _ in parts], dtype=np.int64)
    return Split(whole, np.array(fraction, dtype=np.int64), np.array(decimals, dtype=np.int64))
