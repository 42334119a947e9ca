"""Candles against the rows of files that alone hold them: the same comparison as of rows in the tables.

The rows of a file become a temporary table named like the one that they were dropped from. It hides that one, so the
statements of `pipeline.verify` read it instead, and the database's own exact decimals make the candles.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from psycopg import sql

from pipeline.archive import files
from pipeline.archive.audit import Audited
from pipeline.archive.layout import LAYOUTS, Layout
from pipeline.archive.storage import Storage
from pipeline.archive.wide import scaled_integers
from pipeline.core.numeric import EXACT
from pipeline.database import query
from pipeline.database.connection import Connection
from pipeline.database.copy import Field, Int4, Int8, Scaled, Time, write
from pipeline.database.copy import rows as copy_rows
from pipeline.database.sql import statement

_TYPES = {"time": "timestamptz", "int64": "bigint", "int32": "integer", "decimal": "numeric"}


def may_recompute(conn: Connection) -> bool:
    """Whether this role may create temporary tables."""
    return bool(query.scalar(conn, "SELECT has_database_privilege(current_database(), 'TEMPORARY')"))


def recomputed(conn: Connection, storage: Storage, one: Audited) -> list[str] | None:
    """Return what is wrong with the candles of a file's span, and with its hours; None if the table has its rows.

    Rows that were stored later and are in no file yet count too.
    """
    if one.kind == "exchange_candles":
        return None
    table, layout = sql.Identifier(one.kind), LAYOUTS[one.kind]
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ WRITE")  # of temporary tables
        # As in `tiers.snapshot`: nothing is dropped between what the ledger says and what the table has.
        conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(table))
        about = conn.execute(
            "SELECT s.instrument_id, s.replaced FROM archive_spans s"
            " JOIN archived a USING (instrument_id, kind, from_ts) WHERE a.path = %s AND NOT s.in_tables",
            (one.path,),
        ).fetchone()
        if about is None:  # or there is a newer file
            return None
        span = {"from": one.from_ts, "to": one.to_ts}
        values = {"instrument": about[0], "kind": one.kind, "replaced": about[1], **span, "complete": True}
        later = sql.SQL("CREATE TEMP TABLE later ON COMMIT DROP AS SELECT {} FROM {} WHERE {}").format(
            names := sql.SQL(", ").join(map(sql.Identifier, _names(layout))),
            table,
            sql.SQL("instrument_id = {} AND ts >= {} AND ts < {}").format(
                *map(sql.Literal, (about[0], one.from_ts, one.to_ts))
            ),
        )
        conn.execute(later)
        _copy(conn, storage, one, layout)
        if about[1]:
            conn.execute(sql.SQL("DELETE FROM pg_temp.{} WHERE ts <@ %(replaced)s").format(table), values)
        # Of a row that is in both, the file's counts: as for those who read both tiers.
        new = "INSERT INTO pg_temp.{0} ({1}) SELECT {1} FROM later l WHERE NOT EXISTS"
        same = sql.SQL(" AND ").join(sql.SQL("k.{0} = l.{0}").format(sql.Identifier(key)) for key in layout.order)
        conn.execute(sql.SQL(new + " (SELECT FROM pg_temp.{0} k WHERE {2})").format(table, names, same))
        conn.execute(sql.SQL("ALTER TABLE pg_temp.{} ADD instrument_id integer DEFAULT {}").format(table, about[0]))
        conn.execute(sql.SQL("ANALYZE pg_temp.{}").format(table))
        found = conn.execute(statement(f"verify/{one.kind}_rows"), values)
        assert found.description is not None
        place = [column.name for column in found.description].index("wrong")
        return [text for row in found.fetchall() for text in row[place]]


def _names(layout: Layout) -> list[str]:
    return [column.name for column in layout.columns if column.type in _TYPES]


def _copy(conn: Connection, storage: Storage, one: Audited, layout: Layout) -> None:
    columns = [column for column in layout.columns if column.type in _TYPES]
    typed = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(_TYPES[column.type])) for column in columns
    )
    table = sql.Identifier(one.kind)
    conn.execute(sql.SQL("CREATE TEMP TABLE {} ({}) ON COMMIT DROP").format(table, typed))
    with conn.cursor().copy(sql.SQL("COPY pg_temp.{} FROM STDIN (FORMAT BINARY)").format(table)) as copy:
        pieces = files.read(storage.open(one.path), _names(layout))
        write(copy, (copy_rows([_field(piece[column.name], column.type) for column in columns]) for piece in pieces))


def _field(values: pa.ChunkedArray, type_: str) -> Field:
    array = values.combine_chunks()
    if type_ == "decimal":
        scale, narrow = array.type.scale, scaled_integers(array)
        if narrow is not None:
            return Scaled(narrow.astype(np.int64), scale)
        return Scaled(np.array([int(value.scaleb(scale, EXACT)) for value in array.to_pylist()], dtype=object), scale)
    if type_ == "int32":
        return Int4(array.to_numpy())
    integers = array.cast(pa.int64()).to_numpy()
    return Time(integers) if type_ == "time" else Int8(integers)
