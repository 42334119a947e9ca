"""Read trades and quotes from the archive's files and the tables, each row once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from pipeline.archive import files, ledger, merge, rows, tiers
from pipeline.archive.files import schema_of
from pipeline.archive.layout import Kind, Span
from pipeline.archive.open import open_storage
from pipeline.archive.storage import Storage
from pipeline.core.errors import Unavailable
from pipeline.core.products import TAKER_SIDES
from pipeline.core.settings import ArchiveSettings, load
from pipeline.read.columns import EXACT, TIME, Columns, floats
from pipeline.read.copied import copied
from pipeline.read.request import Moment, Request, request

FIELDS: dict[Kind, tuple[str, ...]] = {
    "trades": ("ts", "trade_id", "price", "quantity", "taker_side"),
    "quotes": ("ts", "bid", "ask", "bid_size", "ask_size"),
}
"""The columns of each kind, in order; `ts` is returned as `time`."""
_THREADS = 4  # files read in parallel: from a disk two keep two cores busy, over a network more are waiting


@dataclass(frozen=True)
class Part:
    """The rows of a part of the interval: a file still to be read, or a table."""

    about: tiers.Part
    table: pa.Table | None


def trades(venue: str, product: str, start: Moment = None, end: Moment = None, *, exact: bool = False) -> Columns:
    """Read trades, ordered by time and id: time, trade_id, price, quantity, taker_side."""
    return _ticks("trades", venue, product, start, end, exact)


def quotes(venue: str, product: str, start: Moment = None, end: Moment = None, *, exact: bool = False) -> Columns:
    """Read quotes (and tickers), ordered by time: time, bid, ask, bid_size, ask_size."""
    return _ticks("quotes", venue, product, start, end, exact)


def _ticks(kind: Kind, venue: str, product: str, start: Moment, end: Moment, exact: bool) -> Columns:
    storage, found = located(kind, venue, product, start, end, exact)
    with ThreadPoolExecutor(_THREADS) as pool:
        tables = list(pool.map(lambda part: _table(storage, kind, part, exact), found))
    return Columns(pa.concat_tables([_shaped(pa.table({}), kind, exact), *tables]))


def located(
    kind: Kind, venue: str, product: str, start: Moment, end: Moment, exact: bool
) -> tuple[Storage, list[Part]]:
    """Return the parts in order: the tables' rows, and the files with the others, consistently."""
    storage = open_storage(load(ArchiveSettings))
    with request(venue, product, start, end) as asked, tiers.snapshot(asked.conn, kind):
        places = tiers.parts(asked.conn, storage, kind, asked.instrument_id, asked.start, asked.end)
        return storage, [Part(place, _of_tables(asked, storage, kind, place, exact)) for place in places]


def _of_tables(asked: Request, storage: Storage, kind: Kind, place: tiers.Part, exact: bool) -> pa.Table | None:
    """Read the table's rows, inside the snapshot."""
    if place.file is None:
        span = Span(asked.instrument_id, asked.venue, asked.product_id, kind, place.from_ts, place.to_ts)
        return _shaped(_wide(asked, span), kind, exact) if exact else _floats(asked, span)
    if not place.later:
        return None
    span = place.file.span
    kept = read_file(storage, place.file, [column.name for column in span.layout.columns])
    both = merge.merged(span, kept, _wide(asked, span), ledger.seen(asked.conn, span).replaced)
    return _shaped(_cut(both, place.from_ts, place.to_ts), kind, exact)


def _wide(asked: Request, span: Span) -> pa.Table:
    types = dict.fromkeys(span.layout.named("decimal"), EXACT)
    schema = schema_of(span.layout, types)
    none = pa.table({column.name: pa.array([], schema.field(column.name).type) for column in span.layout.columns})
    return pa.concat_tables([none, *rows.pieces(asked.conn, span, types)])


def _floats(asked: Request, span: Span) -> pa.Table:
    """Read the database's own float64: twice as fast as through decimals."""
    columns: dict[str, sql.Composable | None] = {"time": sql.SQL("ts")}
    for name in FIELDS[span.kind][1:]:
        columns[name] = {"trade_id": sql.SQL("trade_id"), "taker_side": _SIDE}.get(name)
    source = sql.SQL("FROM {} WHERE instrument_id = {} AND ts >= {} AND ts < {} ORDER BY {}").format(
        sql.Identifier(span.kind),
        *map(sql.Literal, (span.instrument_id, span.from_ts, span.to_ts)),
        sql.SQL(", ").join(map(sql.Identifier, span.layout.order)),
    )
    table = copied(asked.conn, columns, source)
    if "taker_side" in columns:
        sides = pa.array(TAKER_SIDES).take(table["taker_side"].combine_chunks())
        table = table.set_column(table.column_names.index("taker_side"), "taker_side", sides)
    return table


_SIDE = sql.SQL("array_position({}::taker_side[], taker_side)::bigint - 1").format(sql.Literal(list(TAKER_SIDES)))


def _table(storage: Storage, kind: Kind, part: Part, exact: bool) -> pa.Table:
    if part.table is not None:
        return part.table
    assert part.about.file is not None  # what is in no file was read from the tables
    whole = read_file(storage, part.about.file, list(FIELDS[kind]))
    return _shaped(_cut(whole, part.about.from_ts, part.about.to_ts), kind, exact)


def read_file(storage: Storage, file: tiers.File, columns: list[str]) -> pa.Table:
    """Read columns of a complete file. Raises `Unavailable` if it is damaged or not the file recorded in the ledger."""
    span = file.span
    expected = files.metadata_of(span.venue, span.product_id, span.kind, span.from_ts, span.to_ts, file.revision)
    try:
        with files.open_file(storage.open(file.path)) as opened:
            if (found := files.read_metadata(opened)) == expected:
                table = opened.read(columns=columns, use_threads=False)
                if len(table) == file.rows:
                    return table.select(columns)  # of what it lacks, `read` says nothing
                problem = f"it has {len(table)} rows and not {file.rows}"
            else:
                problem = f"it says that it is {found} and not {expected}"
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        problem = " ".join(str(error).split())[:300]
    raise Unavailable(
        f"{file.path} of the archive cannot be read ({problem}); python -m pipeline.verify --archive checks all files."
    )


def _cut(table: pa.Table, start: datetime, end: datetime) -> pa.Table:
    """Return the rows of `[start, end)` of an ordered table."""
    if not len(table):
        return table
    times: Any = table["ts"]
    if times[0].as_py() >= start and times[-1].as_py() < end:
        return table
    inside = pc.and_(pc.greater_equal(times, pa.scalar(start, TIME)), pc.less(times, pa.scalar(end, TIME)))
    return table.filter(inside)


def _shaped(table: pa.Table, kind: Kind, exact: bool) -> pa.Table:
    """Return a file's columns (or none) in the result's format."""
    made = {}
    for name in FIELDS[kind]:
        type_ = {"ts": TIME, "trade_id": pa.int64(), "taker_side": pa.string()}.get(name)
        wanted = type_ or (EXACT if exact else pa.float64())
        column = table[name] if name in table.column_names else pa.chunked_array([], wanted)
        nearest = pa.types.is_decimal(column.type) and not exact
        made["time" if name == "ts" else name] = floats(column) if nearest else column.cast(wanted)
    return pa.table(made)
