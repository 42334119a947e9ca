"""Parse Binance's payloads: pure functions (developers.binance.com, "Spot": WebSocket Streams, REST API).

Streams, requested with `timeUnit=MICROSECOND`; without it times are in milliseconds. `m`: the buyer was the maker. The
book ticker carries no time; the mini ticker arrives every second and serves as a heartbeat::

    {"e":"trade","E":1672515782136000,"s":"BNBBTC","t":12345,"p":"0.001","q":"100","T":1672515782135912,"m":true,"M":true}
    {"u":400900217,"s":"BNBUSDT","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}
    {"e":"24hrMiniTicker","E":1672515782136000,"s":"BTCUSDT","c":"0.0025","o":"0.0010",...}
    {"e":"serverShutdown","E":1770123456789000}

Answers to requests repeat only the request's number::

    {"result":null,"id":1}
    {"code":2,"msg":"Invalid request: too many parameters","id":1}
    {"error":{"code":2,"msg":"Invalid request: ..."},"id":1}

REST `trades` and `historicalTrades`; `aggTrades`; a line of the archive's daily files (id, price, quantity, quote
quantity, time, buyer was maker, best match), with times in milliseconds before 2025 and in microseconds since::

    [{"id":28457,"price":"4.00000100","qty":"12.00000000","quoteQty":"48.000012","time":1499865549590,
      "isBuyerMaker":true,"isBestMatch":true}]
    [{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27781,"T":1498793709153,"m":true,"M":true}]
    51175358,17.80180000,5.69000000,101.29224200,1583709433583,True,True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from pipeline.core.errors import BadData, WrongAnswer
from pipeline.core.products import TakerSide, canonical_product
from schemas.records import TradeRow
from venues.events import (
    MAX_DETAIL,
    READING,
    Acknowledged,
    SubscriptionRefused,
    TickerFrame,
    TradeFrame,
    VenueEvent,
    VenueNotice,
    VenueTime,
    parse_frame,
    sane_time,
    unreadable,
    whole_number,
)
from venues.rest.page import Page, elements_of, problem_of, read_page
from venues.rows import quote_of, trade_row

_FLAGS = {b"True": True, b"true": True, b"False": False, b"false": False}
_MICROSECONDS_FROM = 10**14  # as milliseconds this is the year 5138


@dataclass
class Asked:
    """What was requested on this connection, without which its frames cannot be understood."""

    products: Mapping[str, str] = field(default_factory=dict)
    """Symbol -> product, for the configured products."""
    requests: dict[int, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    """Request number -> channel and products."""


def read(frame: bytes, asked: Asked) -> list[VenueEvent]:
    """Parse a frame. Never raises: unknown events are ignored, a malformed frame becomes `Unreadable`."""
    try:
        message = parse_frame(frame)
        event = message.get("e")
        if event == "trade":
            return [VenueTime(time_us(message["E"])), _trade(message, asked)]
        if event == "24hrMiniTicker":
            return [VenueTime(time_us(message["E"]))]
        if event == "serverShutdown":
            return [VenueNotice("status", "the venue will end this connection soon")]
        if event is None and "u" in message:
            return [_book_ticker(message, asked)]
        if "result" in message or "error" in message or "code" in message:
            return _answer(message, asked)
        return []
    except READING as error:
        return [unreadable(error, frame)]


def time_us(value: Any) -> int:
    """Convert a time in milliseconds or microseconds, told apart by size, to µs. Raises `BadData("time")`."""
    if type(value) is not int:
        raise BadData("time", f"a time is an integer, not {type(value).__name__}")
    return sane_time(value if value >= _MICROSECONDS_FROM else value * 1000)


def _product_of(symbol: Any, asked: Asked) -> str:
    if not isinstance(symbol, str):
        raise BadData("shape", f"a symbol is a text, not {type(symbol).__name__}")
    return asked.products.get(symbol) or canonical_product(symbol)


def _trade(message: dict[str, Any], asked: Asked) -> TradeFrame:
    row = _row(message["t"], message["T"], message["p"], message["q"], message["m"])
    return TradeFrame(_product_of(message["s"], asked), [row])


def _row(number: Any, at: Any, price: Any, quantity: Any, buyer_was_maker: Any) -> TradeRow:
    """Return a trade of the stream, REST or a daily file. If the buyer was the maker, the taker sold."""
    taker: TakerSide = "unknown"
    if isinstance(buyer_was_maker, bool):
        taker = "sell" if buyer_was_maker else "buy"
    return trade_row(number, time_us(at), price, quantity, taker)


def _book_ticker(message: dict[str, Any], asked: Asked) -> TickerFrame:
    quote = quote_of(message["b"], message["a"], message["B"], message["A"])
    return TickerFrame(_product_of(message["s"], asked), None, quote)


def _answer(message: dict[str, Any], asked: Asked) -> list[VenueEvent]:
    """Parse the answer to a request: all its products were accepted, or none."""
    number = message.get("id")
    request = number if type(number) is int else None
    channel, products = asked.requests.get(request or 0, (None, ()))
    error = message.get("error", message if "code" in message else None)
    if error is None:
        return [Acknowledged(channel, product, request) for product in products]
    reason = str(error.get("msg") if isinstance(error, dict) else error)[:MAX_DETAIL]
    if channel is None:
        return [VenueNotice("error", reason)]
    return [SubscriptionRefused(channel, products[0] if len(products) == 1 else None, reason, request)]


def rest_trades(body: bytes) -> Page:
    """Parse a page of trades; returns it ascending by id. Raises `WrongAnswer`."""
    return read_page(elements_of(body, "Binance trades"), _rest_row, lambda element: whole_number(element["id"]))


def _rest_row(element: dict[str, Any]) -> TradeRow:
    return _row(element["id"], element["time"], element["price"], element["qty"], element["isBuyerMaker"])


def first_of_aggregates(body: bytes) -> int | None:
    """Return the id of the first trade in an answer of `aggTrades`; None if it is empty. Raises `WrongAnswer`."""
    elements = elements_of(body, "Binance aggTrades")
    try:
        return whole_number(elements[0]["f"]) if elements else None
    except READING as error:
        raise WrongAnswer(f"Binance aggTrades has an unknown format: {type(error).__name__}: {error}") from None


def archive_path(symbol: str, day: date) -> str:
    """Return the path of a day's file in the public archive, which exists from the next day on.

    Some files lack hours (github.com/binance/binance-public-data/issues/106), some never matched their checksum
    (issue 405).
    """
    return f"data/spot/daily/trades/{symbol}/{symbol}-trades-{day:%Y-%m-%d}.zip"


def archive_row(line: bytes) -> TradeRow | None:
    """Parse a line of a daily file; None for a heading, and for a trade that cannot be stored: REST is asked for it."""
    try:
        number, price, quantity, _, at, maker, *_ = line.split(b",")
        row = _row(number.decode(), int(at), price.decode(), quantity.decode(), _FLAGS.get(maker.strip()))
    except READING:
        return None
    return row if problem_of(row) is None else None
