"""Stored data for notebooks: candles, trades and quotes of one instrument and span as columns.

    from pipeline.read import candles, trades
    frame = candles("kraken", "BTC-USD", "1h", start="2026-01-01").pandas()

The database sends PostgreSQL's binary COPY format, which numpy reads without a Python object per value. Prices and
sizes become float64, which is what statistics want; `exact=True` gives `decimal.Decimal` objects instead, slower. Times
are UTC: datetime64[us] in numpy, with a time zone in pandas and polars. `start` is included, `end` is not.

Measured with the database on the same two busy cores: 0.45 to 0.6 M quotes/s as float64, 0.2 M exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import sql

from pipeline.core.errors import WrongUse
from pipeline.core.moments import moment_us
from pipeline.core.products import canonical_venue
from pipeline.core.runtime import now_us
from pipeline.core.settings import DatabaseSettings, load
from pipeline.core.timeframes import timeframe_of
from pipeline.core.times import from_us
from pipeline.database.connection import connect
from venues.registry import product_at

Moment = str | date | datetime | None
Array = npt.NDArray[Any]

# PostgreSQL counts microseconds from 2000-01-01.
_PG_EPOCH_US = 946_684_800_000_000
_HEADER = 19  # bytes before the first row of a binary COPY: signature, flags, length of an extension
_SIDES = ("buy", "sell", "unknown")


@dataclass(frozen=True)
class Columns:
    """Columns of equal length, by name."""

    data: dict[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.data.values())))

    def __getitem__(self, name: str) -> Array:
        return self.data[name]

    def numpy(self) -> dict[str, Array]:
        """The columns as numpy arrays."""
        return self.data

    def pandas(self) -> Any:
        """A `pandas.DataFrame` indexed by time (UTC). Needs pandas (`pip install pandas`)."""
        pandas: Any = import_module("pandas")

        frame = pandas.DataFrame(self.data)
        frame["time"] = frame["time"].dt.tz_localize("UTC")
        if "taker_side" in frame:
            frame["taker_side"] = pandas.Categorical(frame["taker_side"], categories=list(_SIDES))
        return frame.set_index("time")

    def polars(self) -> Any:
        """A `polars.DataFrame`. Needs polars (`pip install polars`)."""
        polars: Any = import_module("polars")

        made = {name: [str(v) for v in c] if c.dtype == object else c for name, c in self.data.items()}
        frame = polars.DataFrame(made)
        exact = [name for name, column in self.data.items() if column.dtype == object]
        return frame.with_columns(
            polars.col("time").dt.replace_time_zone("UTC"),
            *(polars.col(name).cast(polars.Decimal(38, 18)) for name in exact),
        )


def candles(
    venue: str, product: str, frame: str, start: Moment = None, end: Moment = None, *, exact: bool = False
) -> Columns:
    """Candles of the view `candles_<frame>`: time, open, high, low, close, volume, vwap, ticks.

    Of trades; where a venue has only quotes, of the bid (vwap is then NaN, exact: None). `frame` is one of 1m 5m 15m
    30m 1h 4h 12h 1d. Raises `WrongUse` for a name that is none, `Unavailable` without a database.
    """
    return _candles(
        "candles", ("open", "high", "low", "close", "volume", "vwap"), venue, product, frame, start, end, exact
    )


def quote_candles(
    venue: str, product: str, frame: str, start: Moment = None, end: Moment = None, *, exact: bool = False
) -> Columns:
    """Candles of `quote_candles_<frame>`: the bid's open, high, low, close, the ask's, sizes, mean spread, ticks."""
    numbers = (
        "open",
        "high",
        "low",
        "close",
        "ask_open",
        "ask_high",
        "ask_low",
        "ask_close",
        "bid_size",
        "ask_size",
        "spread",
    )
    return _candles("quote_candles", numbers, venue, product, frame, start, end, exact)


def trades(venue: str, product: str, start: Moment = None, end: Moment = None, *, exact: bool = False) -> Columns:
    """Trades by time and id: time, trade_id, price, quantity, taker_side."""
    side = sql.SQL("array_position(ARRAY['buy', 'sell', 'unknown']::taker_side[], taker_side)::bigint")
    found = _fetch(
        sql.SQL("FROM trades WHERE instrument_id = {id} AND ts >= {start} AND ts < {end} ORDER BY ts, trade_id"),
        {"time": sql.SQL("ts"), "trade_id": sql.SQL("trade_id"), "price": None, "quantity": None, "taker_side": side},
        venue,
        product,
        start,
        end,
        exact,
    )
    found["taker_side"] = np.array(_SIDES)[found["taker_side"] - 1]
    return Columns(found)


def quotes(venue: str, product: str, start: Moment = None, end: Moment = None, *, exact: bool = False) -> Columns:
    """Quotes (and tickers) by time: time, bid, ask, bid_size, ask_size."""
    return Columns(
        _fetch(
            sql.SQL("FROM quotes WHERE instrument_id = {id} AND ts >= {start} AND ts < {end} ORDER BY ts, seq"),
            {"time": sql.SQL("ts"), "bid": None, "ask": None, "bid_size": None, "ask_size": None},
            venue,
            product,
            start,
            end,
            exact,
        )
    )


def _candles(
    view: str, numbers: tuple[str, ...], venue: str, product: str, frame: str, start: Moment, end: Moment, exact: bool
) -> Columns:
    source = sql.SQL(
        "FROM {view} WHERE venue = {venue} AND product_id = {product}"
        " AND bucket >= {start} AND bucket < {end} AND {id} IS NOT NULL ORDER BY bucket"
    )
    relation = sql.Identifier(f"{view}_{timeframe_of(frame).name}")
    columns = {"time": sql.SQL("bucket"), **dict.fromkeys(numbers), "ticks": sql.SQL("ticks")}
    return Columns(_fetch(source, columns, venue, product, start, end, exact, relation))


def _moment(value: Moment, default: datetime) -> datetime:
    if value is None:
        return default
    if isinstance(value, str):
        return from_us(moment_us(value, now_us(), "start, end"))
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _fetch(
    source: sql.SQL,
    columns: dict[str, sql.SQL | None],
    venue: str,
    product: str,
    start: Moment,
    end: Moment,
    exact: bool,
    view: sql.Identifier | None = None,
) -> dict[str, Array]:
    """`columns`: name -> expression of a time or an integer; None: the number of that name."""
    begin, stop = _moment(start, datetime(1970, 1, 1, tzinfo=UTC)), _moment(end, datetime(2200, 1, 1, tzinfo=UTC))
    venue = canonical_venue(venue)
    name = product_at(venue, product)
    with connect(load(DatabaseSettings), "read", read_only=True) as conn:
        conn.execute("SET statement_timeout = 0")
        conn.execute("SET extra_float_digits = 3")
        row = conn.execute(
            "SELECT instrument_id FROM instruments WHERE venue = %s AND product_id = %s", (venue, name)
        ).fetchone()
        if row is None:
            raise WrongUse(f"nothing is stored of {venue} {name}; the view completeness says what there is.")
        where = source.format(
            id=sql.Literal(row[0]),
            start=sql.Literal(begin),
            end=sql.Literal(stop),
            venue=sql.Literal(venue),
            product=sql.Literal(name),
            view=view or sql.SQL(""),
        )
        if exact:
            listed = sql.SQL(", ").join(expression or sql.Identifier(n) for n, expression in columns.items())
            rows = conn.execute(sql.SQL("SELECT {} {}").format(listed, where)).fetchall()
            return _objects(rows, columns)
        number = sql.SQL("coalesce({}::float8, 'NaN')")
        listed = sql.SQL(", ").join(expression or number.format(sql.Identifier(n)) for n, expression in columns.items())
        query = sql.SQL("COPY (SELECT {} {}) TO STDOUT (FORMAT BINARY)").format(listed, where)
        with conn.cursor().copy(query) as copy:
            return _decode(b"".join(bytes(part) for part in copy), columns)


def _decode(data: bytes, columns: dict[str, sql.SQL | None]) -> dict[str, Array]:
    """Every value is 8 bytes and none is NULL, so all rows are equally long: one numpy record each."""
    fields: list[tuple[str, str]] = [("_count", ">i2")]
    for name, expression in columns.items():
        fields += [(f"_{name}", ">i4"), (name, ">f8" if expression is None else ">i8")]
    record = np.dtype(fields)
    count = (len(data) - _HEADER - 2) // record.itemsize
    rows = np.frombuffer(data, dtype=record, count=count, offset=_HEADER)
    made: dict[str, Array] = {}
    for name, expression in columns.items():
        column = rows[name].astype(np.float64 if expression is None else np.int64)
        made[name] = (column + _PG_EPOCH_US).view("datetime64[us]") if name == "time" else column
    return made


def _objects(rows: list[tuple[Any, ...]], columns: dict[str, sql.SQL | None]) -> dict[str, Array]:
    made: dict[str, Array] = {}
    for at, (name, expression) in enumerate(columns.items()):
        values = [row[at] for row in rows]
        if name == "time":
            made[name] = np.array([value.replace(tzinfo=None) for value in values], dtype="datetime64[us]")
        else:
            made[name] = np.array(values, dtype=object if expression is None else np.int64)
    return made
