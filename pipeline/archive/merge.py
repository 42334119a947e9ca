"""Merge the rows of a span in a file with those that were stored in the table later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
from psycopg.types.range import Range

from pipeline.archive.files import decimal_type
from pipeline.archive.layout import Span
from pipeline.core.numeric import EXACT

_WIDE = pa.decimal128(38, 18)


def merged(span: Span, kept: pa.Table, later: pa.Table, replaced: Iterable[Range[datetime]]) -> pa.Table:
    """Merge `kept` from the file and `later` from the table, in order, each row once.

    `replaced`: intervals in which the file's rows are outdated. Otherwise rows are equal by the columns of the order,
    and the file's is kept.
    """
    layout = span.layout
    names = [column.name for column in layout.columns]
    kept, later = _widened(span, kept.select(names)), _widened(span, later.select(names))
    for interval in replaced:
        low, high = (pa.scalar(end, kept.schema.field(layout.time).type) for end in (interval.lower, interval.upper))
        time = kept[layout.time]
        kept = kept.filter(pc.or_(pc.less(time, low), pc.greater_equal(time, high)))
    keys = list(layout.order)
    later = later.join(kept.select(keys), keys, join_type="left anti", use_threads=False)
    return pa.concat_tables([kept, later.select(names)]).sort_by([(name, "ascending") for name in layout.order])


def types_of(span: Span, rows: pa.Table) -> Mapping[str, pa.DataType]:
    """Return the narrowest types for the decimals of a table."""
    return {name: _narrow(rows[name]) for name in span.layout.named("decimal")}


def cast(rows: pa.Table, types: Mapping[str, pa.DataType], piece: int) -> Iterator[pa.Table]:
    """Yield the table cast to these types, piece by piece."""
    for low in range(0, len(rows), piece):
        part = rows.slice(low, piece)
        for name, type_ in types.items():
            part = part.set_column(part.schema.get_field_index(name), name, part[name].cast(type_))
        yield part


def sums(rows: pa.Table, names: tuple[str, ...]) -> dict[str, Decimal]:
    """Return exact sums of decimal columns."""
    found = {}
    for name in names:
        column = rows[name]
        wide = column if column.type.precision <= 18 else column.cast(pa.decimal256(76, column.type.scale))
        found[name] = pc.sum(wide).as_py() or Decimal(0)
    return found


def _narrow(column: pa.ChunkedArray) -> pa.DataType:
    distinct = pc.unique(column).to_pylist()
    scales = [-int(value.normalize(EXACT).as_tuple().exponent) for value in distinct]
    return decimal_type(int(max(distinct)), max(0, *scales))


def _widened(span: Span, rows: pa.Table) -> pa.Table:
    for name in span.layout.named("decimal"):
        rows = rows.set_column(rows.schema.get_field_index(name), name, rows[name].cast(_WIDE))
    return rows.cast(pa.schema([pa.field(field.name, field.type) for field in rows.schema]))
