"""Read a query's rows as Arrow, by PostgreSQL's binary COPY, which numpy parses without an object per value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from psycopg import sql

from pipeline.database.connection import Connection
from pipeline.read.columns import EXACT, TIME

Expressions = Mapping[str, sql.Composable | None]
"""Column -> expression of an integer, or of a time where the column is `time`; None: the number of that name."""

# PostgreSQL counts microseconds from 2000-01-01.
_PG_EPOCH_US = 946_684_800_000_000
_HEADER = 19  # bytes before the first row of a binary COPY: signature, flags, length of an extension


def copied(conn: Connection, columns: Expressions, source: sql.Composable) -> pa.Table:
    """Read numbers as float64, NaN for NULL. `source`: the query from FROM on."""
    number = sql.SQL("coalesce({}::float8, 'NaN')")
    listed = [expression or number.format(sql.Identifier(name)) for name, expression in columns.items()]
    query = sql.SQL("COPY (SELECT {} {}) TO STDOUT (FORMAT BINARY)").format(sql.SQL(", ").join(listed), source)
    with conn.cursor().copy(query) as copy:
        data = b"".join(bytes(part) for part in copy)
    # Every value has 8 bytes and none is NULL, so all rows have the same length: one numpy record each.
    fields: list[tuple[str, str]] = [("_count", ">i2")]
    for name, expression in columns.items():
        fields += [(f"_{name}", ">i4"), (name, ">f8" if expression is None else ">i8")]
    record = np.dtype(fields)
    rows = np.frombuffer(data, dtype=record, count=(len(data) - _HEADER - 2) // record.itemsize, offset=_HEADER)
    made = {}
    for name, expression in columns.items():
        values = rows[name].astype(np.float64 if expression is None else np.int64)
        made[name] = pa.array(values + _PG_EPOCH_US).cast(TIME) if name == "time" else pa.array(values)
    return pa.table(made)


def selected(conn: Connection, columns: Expressions, source: sql.Composable) -> pa.Table:
    """Read numbers as decimals, truncated to 18 places."""
    number = sql.SQL("trunc({}, 18)")
    listed = [expression or number.format(sql.Identifier(name)) for name, expression in columns.items()]
    rows = conn.execute(sql.SQL("SELECT {} {}").format(sql.SQL(", ").join(listed), source)).fetchall()
    made: dict[str, Any] = {}
    for at, (name, expression) in enumerate(columns.items()):
        type_ = TIME if name == "time" else EXACT if expression is None else pa.int64()
        made[name] = pa.array([row[at] for row in rows], type_)
    return pa.table(made)
