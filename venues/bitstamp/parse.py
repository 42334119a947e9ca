"""Bitstamp payloads, parsed by pure functions (www.bitstamp.net/websocket/v2, www.bitstamp.net/api).

The stream; `type` is the taker's side, 0 buy and 1 sell::

    {"event":"trade","channel":"live_trades_btcusd","data":{"id":212337562,"timestamp":"1643643584","amount":0.0028,
     "amount_str":"0.00280000","price":38416,"price_str":"38416","type":0,"microtimestamp":"1643643584587000",
     "buy_order_id":1452639291506688,"sell_order_id":1452639287750657}}
    {"event":"data","channel":"order_book_btcusd","data":{"timestamp":"1643643584","microtimestamp":"1643643584684047",
     "bids":[["38402.86","0.78000000"],...],"asks":[["38417.49","0.16000000"],...]}}
    {"event":"bts:subscription_succeeded","channel":"live_trades_btcusd","data":{}}
    {"event":"bts:error","channel":"","data":{"code":null,"message":"Bad subscription string."}}
    {"event":"bts:request_reconnect","channel":"","data":""}

REST `transactions/<pair>/?time=minute|hour|day`, newest first, times in whole seconds::

    [{"amount":"0.00280000","date":"1643643584","price":"38416.00","tid":"212337562","type":"0"}]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.core.errors import BadData
from pipeline.core.products import TakerSide, canonical_product
from schemas.records import TradeRow
from venues.events import (
    MAX_DETAIL,
    READING,
    Acknowledged,
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
from venues.rest.page import Page, elements_of, read_page
from venues.rows import quote_of, trade_row

TRADES, BOOK = "live_trades", "order_book"
_TAKER: dict[str, TakerSide] = {"0": "buy", "1": "sell"}


def read(frame: bytes, products: Mapping[str, str]) -> list[VenueEvent]:
    """Parse a frame. Never raises: unknown events are ignored, a malformed frame becomes `Unreadable`.

    `products`: symbol -> product, for the configured products.
    """
    try:
        message = parse_frame(frame)
        event = message["event"]
        if event == "trade":
            return _trade(message, products)
        if event == "data":
            return _book(message, products)
        if event == "bts:subscription_succeeded":
            return [Acknowledged(*_channel(message, products))]
        if event == "bts:request_reconnect":
            return [VenueNotice("status", "the venue will end this connection soon")]
        if event == "bts:error":
            return [VenueNotice("error", str(message["data"]["message"])[:MAX_DETAIL])]
        return []
    except READING as error:
        return [unreadable(error, frame)]


def _channel(message: dict[str, Any], products: Mapping[str, str]) -> tuple[str, str]:
    """`live_trades_btcusd` -> `live_trades`, `BTC-USD`."""
    channel, _, symbol = str(message["channel"]).rpartition("_")
    if channel not in (TRADES, BOOK):
        raise BadData("shape", f"unknown channel {str(message['channel'])[:100]!r}")
    return channel, products.get(symbol) or canonical_product(symbol)


def _trade(message: dict[str, Any], products: Mapping[str, str]) -> list[VenueEvent]:
    data = message["data"]
    at_us = _microseconds(data["microtimestamp"])
    taker = _TAKER.get(str(data["type"]), "unknown")
    row = trade_row(data["id"], at_us, data["price_str"], data["amount_str"], taker)
    return [VenueTime(at_us), TradeFrame(_channel(message, products)[1], [row])]


def _book(message: dict[str, Any], products: Mapping[str, str]) -> list[VenueEvent]:
    """Return the best bid and ask of a book of 100 levels; of a book with an empty side only the time."""
    data = message["data"]
    at_us = _microseconds(data["microtimestamp"])
    events: list[VenueEvent] = [VenueTime(at_us)]
    if data["bids"] and data["asks"]:
        (bid, bid_size), (ask, ask_size) = data["bids"][0][:2], data["asks"][0][:2]
        events.append(TickerFrame(_channel(message, products)[1], at_us, quote_of(bid, ask, bid_size, ask_size)))
    return events


def _microseconds(value: Any) -> int:
    if not isinstance(value, str) or not (value.isascii() and value.isdecimal() and len(value) <= 19):
        raise BadData("time", f"{str(value)[:100]!r} is not a time in microseconds")
    return sane_time(int(value))


def rest_trades(body: bytes) -> Page:
    """Parse an answer of `transactions`; returns it ascending by id. Raises `WrongAnswer`."""
    return read_page(
        elements_of(body, "Bitstamp transactions"), _rest_row, lambda element: whole_number(element["tid"])
    )


def _rest_row(element: dict[str, Any]) -> TradeRow:
    at_us = sane_time(whole_number(element["date"]) * 1_000_000)
    taker = _TAKER.get(str(element["type"]), "unknown")
    return trade_row(element["tid"], at_us, element["price"], element["amount"], taker)
