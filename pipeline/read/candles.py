"""Read candles of the views."""

from __future__ import annotations

from psycopg import sql

from pipeline.core.timeframes import timeframe_of
from pipeline.read.columns import Columns
from pipeline.read.copied import copied, selected
from pipeline.read.request import Moment, request


def candles(
    venue: str, product: str, frame: str, start: Moment = None, end: Moment = None, *, exact: bool = False
) -> Columns:
    """Read the view `candles_<frame>`: time, open, high, low, close, volume, vwap, ticks.

    Candles of trades or, for venues with quotes only, of the bid (then vwap is NaN, exact: None). `frame` is one of 1m
    5m 15m 30m 1h 4h 12h 1d. Raises `WrongUse` for an invalid name, `Unavailable` without a database.
    """
    numbers = ("open", "high", "low", "close", "volume", "vwap")
    return _candles("candles", numbers, venue, product, frame, start, end, exact)


def quote_candles(
    venue: str, product: str, frame: str, start: Moment = None, end: Moment = None, *, exact: bool = False
) -> Columns:
    """Read `quote_candles_<frame>`: open, high, low, close of bid and ask, sizes, mean spread, ticks."""
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


def _candles(
    view: str, numbers: tuple[str, ...], venue: str, product: str, frame: str, start: Moment, end: Moment, exact: bool
) -> Columns:
    name = f"{view}_{timeframe_of(frame).name}"
    columns = {"time": sql.SQL("bucket"), **dict.fromkeys(numbers), "ticks": sql.SQL("ticks")}
    with request(venue, product, start, end) as asked:
        source = sql.SQL(
            "FROM {} WHERE venue = {} AND product_id = {} AND bucket >= {} AND bucket < {} ORDER BY bucket"
        ).format(sql.Identifier(name), *map(sql.Literal, (asked.venue, asked.product_id, asked.start, asked.end)))
        return Columns((selected if exact else copied)(asked.conn, columns, source))
