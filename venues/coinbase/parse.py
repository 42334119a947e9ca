"""Parse Coinbase's payloads: pure functions.

Advanced Trade WebSocket (docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket). An envelope holds events
and a sequence number that counts all frames of the connection. Trades are newest first; `side` is the MAKER's::

    {"channel":"market_trades","timestamp":"2026-08-09T21:05:48.251397169Z","sequence_num":9,"events":[{"type":"update",
     "trades":[{"product_id":"BTC-USD","trade_id":"1068572091","price":"65083.67","size":"0.01034361",
     "time":"2026-08-09T21:05:48.167634Z","side":"SELL"}]}]}
    {"channel":"ticker","timestamp":"...","sequence_num":6,"events":[{"type":"snapshot","tickers":[{"type":"ticker",
     "product_id":"BTC-USD","price":"65086.18","volume_24_h":"2867.54532609","low_24_h":"64675.22",
     "high_24_h":"65252.99","price_percent_chg_24_h":"0.09601107287722","best_bid":"65083.66","best_ask":"65083.67",
     "best_bid_quantity":"0.20371215","best_ask_quantity":"0.24290402"}]}]}
    {"channel":"candles","timestamp":"...","sequence_num":3,"events":[{"type":"snapshot","candles":[{"start":
     "1786279500","high":"1916.6","low":"1915.91","open":"1916.11","close":"1916.02","volume":"13.9044026",
     "product_id":"ETH-USD"}]}]}
    {"channel":"subscriptions","timestamp":"...","sequence_num":2,"events":[{"subscriptions":{"market_trades":
     ["BTC-USD","ETH-USD"]}}]}
    {"type":"error","message":"..."}

Exchange REST `/products/<id>/trades`, newest first; `side` is the maker's as well::

    [{"trade_id":881613,"side":"sell","size":"0.00370659","price":"2671.33000000","time":"2026-09-30T02:03:12.257184Z"}]
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pipeline.core.errors import BadData
from pipeline.core.products import TakerSide, canonical_product
from schemas.records import CandleRow, TradeRow
from venues.events import (
    MAX_DETAIL,
    READING,
    Acknowledged,
    BadElements,
    CandleFrame,
    SubscriptionRefused,
    TickerFrame,
    VenueEvent,
    VenueNotice,
    VenueTime,
    decimal_text,
    parse_frame,
    sane_time,
    unreadable,
    whole_number,
)
from venues.rest.page import Page, elements_of, read_page
from venues.rows import by_product, iso_time, quote_with_statistics, trade_frames, trade_row

CANDLE_S = 300
_TAKER: dict[Any, TakerSide] = {"BUY": "sell", "SELL": "buy", "buy": "sell", "sell": "buy"}  # from the maker's side
_PRODUCT = re.compile(r"\b[A-Z0-9]{1,20}-[A-Z0-9]{2,10}\b")
_BEST = ("best_bid", "best_ask", "best_bid_quantity", "best_ask_quantity")
_TICKER_EXTRAS = (
    ("last", "price"),
    ("volume_24h", "volume_24_h"),
    ("high_24h", "high_24_h"),
    ("low_24h", "low_24_h"),
    ("change_pct_24h", "price_percent_chg_24_h"),
)


@dataclass(frozen=True, slots=True)
class Message:
    """A parsed frame: its sequence number on the connection, the venue's time and the events."""

    sequence: int | None
    at_us: int | None
    events: list[VenueEvent]


def read(frame: bytes) -> Message:
    """Parse a WebSocket frame. Never raises: unknown channels give no events, malformed elements `Unreadable`."""
    bad = BadElements()
    try:
        message = parse_frame(frame)
        channel = message.get("channel")
        if channel is None:
            return Message(None, None, _without_channel(message))
        sequence = _of_envelope(message, "sequence_num", whole_number, bad)
        at_us = _of_envelope(message, "timestamp", iso_time, bad)
        parsed: list[VenueEvent] = []
        reader = _CHANNELS.get(channel)
        if reader is None:
            return Message(sequence, at_us, bad.all())
        for event in message["events"]:
            try:
                parsed += reader(event, at_us, bad)
            except READING as error:
                bad.add(error, event)
        return Message(sequence, at_us, parsed + bad.all())
    except READING as error:
        return Message(None, None, [unreadable(error, frame)])


def _of_envelope(message: dict[str, Any], name: str, read_value: Callable[[Any], int], bad: BadElements) -> int | None:
    """Parse a field of the envelope. The events do not depend on it: a bad one is reported and None returned."""
    try:
        return read_value(message[name])
    except READING as error:
        bad.add(error, {key: value for key, value in message.items() if key != "events"})
        return None


def _without_channel(message: dict[str, Any]) -> list[VenueEvent]:
    if message.get("type") != "error":
        return []
    text = str(message.get("message"))[:MAX_DETAIL]
    named = dict.fromkeys(canonical_product(name) for name in _PRODUCT.findall(text))
    if named:
        return [SubscriptionRefused(None, product, text) for product in named]
    return [VenueNotice("error", text)]


def _trades(event: dict[str, Any], _at_us: int | None, bad: BadElements) -> list[VenueEvent]:
    rows = bad.each(reversed(event["trades"]), lambda one: (_product_of(one["product_id"]), _row(one)))
    return trade_frames(rows, event.get("type") == "snapshot")


def _row(element: dict[str, Any]) -> TradeRow:
    """Parse one trade, from the stream or from REST."""
    taker = _TAKER.get(element["side"], "unknown")
    return trade_row(element["trade_id"], iso_time(element["time"]), element["price"], element["size"], taker)


def _tickers(event: dict[str, Any], at_us: int | None, bad: BadElements) -> list[VenueEvent]:
    def ticker(element: dict[str, Any]) -> TickerFrame | None:
        if not (element.get("best_bid") and element.get("best_ask")):
            return None  # an empty side of the book
        product = _product_of(element["product_id"])
        quote = quote_with_statistics(element, _BEST, _TICKER_EXTRAS, bad)
        return TickerFrame(product, at_us, quote, event.get("type") == "snapshot")

    return [*bad.each(event["tickers"], ticker)]


def _candles(event: dict[str, Any], at_us: int | None, bad: BadElements) -> list[VenueEvent]:
    """Oldest first, none of them final: the venue does not say whether a candle is still running."""
    snapshot = event.get("type") == "snapshot"
    return [
        CandleFrame(product, at_us, CANDLE_S, sorted(rows, key=lambda row: row.bucket_us), snapshot)
        for product, rows in by_product(bad.each(event["candles"], _candle)).items()
    ]


def _candle(element: dict[str, Any]) -> tuple[str, CandleRow]:
    at_us = _bucket_us(element["start"])
    opened, high, low, close, volume = (
        decimal_text(element[name]) for name in ("open", "high", "low", "close", "volume")
    )
    return _product_of(element["product_id"]), CandleRow(at_us, opened, high, low, close, volume)


def _bucket_us(start: Any) -> int:
    try:
        seconds = whole_number(start)
    except BadData as error:
        raise BadData("time", str(error)) from None
    if seconds % CANDLE_S:
        raise BadData("time", f"{seconds} is not a multiple of {CANDLE_S} seconds")
    return sane_time(seconds * 1_000_000)


def _subscriptions(event: dict[str, Any], at_us: int | None, bad: BadElements) -> list[VenueEvent]:
    events: list[VenueEvent] = [] if at_us is None else [VenueTime(at_us)]
    for channel, products in event["subscriptions"].items():
        if channel != "heartbeats":
            events += [Acknowledged(channel, product) for product in bad.each(products, _product_of)]
    return events


def _heartbeat(_event: dict[str, Any], at_us: int | None, _bad: BadElements) -> list[VenueEvent]:
    return [] if at_us is None else [VenueTime(at_us)]


@lru_cache(4096)  # bounded, because the venue chooses the keys; a refused text, such as a long one, is not kept
def _product_of(text: str) -> str:
    return canonical_product(text)


_CHANNELS: dict[str, Callable[[dict[str, Any], int | None, BadElements], list[VenueEvent]]] = {
    "heartbeats": _heartbeat,
    "market_trades": _trades,
    "ticker": _tickers,
    "candles": _candles,
    "subscriptions": _subscriptions,
}


def rest_trades(body: bytes) -> Page:
    """Parse a page of REST trades; returns it ascending by id. Raises `WrongAnswer`."""
    return read_page(elements_of(body, "Coinbase trades"), _row, lambda element: whole_number(element["trade_id"]))
