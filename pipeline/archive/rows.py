"""Read the rows of a span from the database as Arrow tables.

Uses PostgreSQL's binary COPY with every value as 8 bytes, which numpy parses without an object per value: a `numeric`
is sent as the integer value x 10^s, with the smallest s that is exact for the whole column, or, if that does not fit 64
bits, as two integers, the integer part and 18 decimals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from psycopg import sql

from pipeline.archive.files import ROW_GROUP, decimal_type, schema_of
from pipeline.archive.layout import DECIMALS, WORDS, Column, Span
from pipeline.archive.wide import products
from pipeline.database import query
from pipeline.database.connection import Connection

Ints = npt.NDArray[np.int64]
_PG_EPOCH_US = 946_684_800_000_000  # 2000-01-01, where PostgreSQL's times count from
_HEADER = 19  # bytes before the first row: signature, flags, length of an extension
_PG_TYPES = {"side": sql.SQL("taker_side"), "origin": sql.SQL("origin")}


CANDLES = {"trades": "trade_candle_1h", "quotes": "quote_candle_1h"}
"""The candles that are made of the rows of each kind."""


@dataclass(frozen=True)
class Survey:
    """The database's own summary of a span's rows. `sums`: of each decimal column."""

    rows: int
    sums: Mapping[str, Decimal]
    types: Mapping[str, pa.DataType]


def survey(conn: Connection, span: Span) -> Survey:
    """Count and sum the rows of a span, and determine the types of its decimals."""
    names = span.layout.named("decimal")
    asked: list[sql.Composable] = [sql.SQL("count(*)")]
    for name in names:
        about = sql.SQL("sum({0}), max(trunc({0})), max(min_scale({0}))")
        asked.append(about.format(sql.Identifier(name)))
    row = conn.execute(sql.SQL("SELECT {} {}").format(sql.SQL(", ").join(asked), _source(span))).fetchone()
    assert row is not None  # an aggregate without GROUP BY has one row
    sums, types = {}, {}
    for number, name in enumerate(names):
        total, whole, scale = row[1 + 3 * number : 4 + 3 * number]
        sums[name] = total or Decimal(0)
        types[name] = decimal_type(int(whole or 0), scale or 0)
    return Survey(row[0], sums, types)


def counted(conn: Connection, span: Span) -> int | None:
    """Return how many rows the span has by its candles, which change in its writers' transactions only.

    None where nothing counts them: of candles of exchanges, and where retention dropped rows that are in no file.
    """
    if (candles := CANDLES.get(span.kind)) is None:
        return None
    asked = sql.SQL(
        "SELECT CASE WHEN i.dropped_before > %(from)s THEN NULL ELSE coalesce(sum(c.ticks), 0)::bigint END"
        " FROM instruments i LEFT JOIN {} c"
        " ON c.instrument_id = i.instrument_id AND c.bucket >= %(from)s AND c.bucket < %(to)s"
        " WHERE i.instrument_id = %(id)s GROUP BY i.dropped_before"
    ).format(sql.Identifier(candles))
    found: int | None = query.scalar(conn, asked, {"id": span.instrument_id, "from": span.from_ts, "to": span.to_ts})
    return found


def pieces(conn: Connection, span: Span, types: Mapping[str, pa.DataType]) -> Iterator[pa.Table]:
    """Yield the rows in order, up to `ROW_GROUP` at a time. Call it in the transaction that determined `types`."""
    layout = span.layout
    schema = schema_of(layout, types)
    fields = [field for column in layout.columns for field in _fields(column, types)]
    record = np.dtype([("count", ">i2"), *((f"{n}", t) for name, _ in fields for n, t in _pair(name))])
    query = sql.SQL("COPY (SELECT {} {} ORDER BY {}) TO STDOUT (FORMAT BINARY)").format(
        sql.SQL(", ").join(expression for _, expression in fields),
        _source(span),
        sql.SQL(", ").join(map(sql.Identifier, layout.order)),
    )
    with conn.cursor().copy(query) as copy:
        waiting, skip = bytearray(), _HEADER
        for part in copy:
            waiting += part
            if len(waiting) >= skip + ROW_GROUP * record.itemsize:
                yield _table(np.frombuffer(bytes(waiting), record, ROW_GROUP, skip), layout.columns, schema)
                del waiting[: skip + ROW_GROUP * record.itemsize]
                skip = 0
        count = (len(waiting) - skip) // record.itemsize
        if count:
            yield _table(np.frombuffer(bytes(waiting), record, count, skip), layout.columns, schema)


def _source(span: Span) -> sql.Composed:
    return sql.SQL("FROM {} WHERE instrument_id = {} AND {} >= {} AND {} < {}").format(
        sql.Identifier(span.kind),
        sql.Literal(span.instrument_id),
        sql.Identifier(span.layout.time),
        sql.Literal(span.from_ts),
        sql.Identifier(span.layout.time),
        sql.Literal(span.to_ts),
    )


def _pair(name: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (f"{name} length", ">i4"), (name, ">i8")


def _fields(column: Column, types: Mapping[str, pa.DataType]) -> list[tuple[str, sql.Composable]]:
    """Return names and expressions, of 8 bytes each, for a column."""
    name = sql.Identifier(column.name)
    if column.type == "time":
        return [(column.name, name)]
    if column.type in WORDS:
        words = sql.SQL("array_position({}::{}[], {})::bigint - 1").format(
            sql.Literal(list(WORDS[column.type])), _PG_TYPES[column.type], name
        )
        return [(column.name, words)]
    if column.type != "decimal":
        return [(column.name, sql.SQL("{}::integer::bigint").format(name) if column.type != "int64" else name)]
    type_ = types[column.name]
    if type_.precision <= 18:
        scaled = sql.SQL("({} * {})::bigint").format(name, sql.Literal(10**type_.scale))
        return [(column.name, scaled)]
    whole = sql.SQL("trunc({})::bigint").format(name)
    fraction = sql.SQL("(({} - trunc({})) * {})::bigint").format(name, name, sql.Literal(10**DECIMALS))
    return [(column.name, whole), (f"{column.name} fraction", fraction)]


def _table(rows: npt.NDArray[np.void], columns: tuple[Column, ...], schema: pa.Schema) -> pa.Table:
    made = []
    for column in columns:
        values = rows[column.name].astype(np.int64)
        type_ = schema.field(column.name).type
        if column.type == "time":
            made.append(ints(values + _PG_EPOCH_US).cast(type_))
        elif column.type in WORDS:
            made.append(pa.array(WORDS[column.type]).take(ints(values)))
        elif column.type == "decimal":
            fraction = rows[f"{column.name} fraction"].astype(np.int64) if type_.precision > 18 else None
            made.append(decimals(values, fraction, type_))
        else:
            made.append(ints(values).cast(type_))
    return pa.table(made, names=[column.name for column in columns])


def ints(values: Ints) -> pa.Array:
    """Return an int64 column sharing numpy's memory."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def decimals(values: Ints, fraction: Ints | None, type_: pa.DataType) -> pa.Array:
    """Return a decimal column from integers: scaled ones, or integer parts and fractions of 18 decimals (same sign)."""
    if fraction is None:
        halves = np.empty((len(values), 2), dtype="<i8")
        halves[:, 0], halves[:, 1] = values, values >> 63
    else:
        halves = products(values, 10**DECIMALS)
        before = halves[:, 0].view(np.uint64)
        total = before + fraction.view(np.uint64)
        halves[:, 1] += (fraction >> 63) + (total < before)
        halves[:, 0] = total.view(np.int64)
    return pa.Array.from_buffers(type_, len(values), [None, pa.py_buffer(halves)])
