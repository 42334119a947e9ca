"""Coinbase's payloads, read by pure functions.

Advanced Trade WebSocket (docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket). An envelope with a number
that counts all frames of the connection, and events; a frame's trades are newest first, `side` is the MAKER's::

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

Exchange REST `/products/<id>/trades`, newest first, `side` the maker's too::

    [{"trade_id":881613,"side":"sell","size":"0.00370659","price":"2671.33000000","time":"2026-09-30T02:03:12.257184Z"}]
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.errors import BadData, WrongAnswer, WrongUse
from pipeline.products import canonical_product
from pipeline.times import iso_to_us
from producers.frames import (
    Acknowledged,
    CandleFrame,
    Row,
    Said,
    SubscriptionRefused,
    TickerFrame,
    TradeFrame,
    VenueNotice,
    decimal_text,
    explained,
    parse_json,
    whole_number,
)
from producers.rest_page import Page, read_page

CANDLE_S = 300
_TAKER = {"BUY": "sell", "SELL": "buy", "buy": "sell", "sell": "buy"}  # from the maker's side
_READING = (BadData, WrongUse, KeyError, TypeError, ValueError, AttributeError, IndexError)
_PRODUCT = re.compile(r"\b[A-Z0-9]{2,10}-[A-Z0-9]{2,10}\b")
_TICKER_EXTRAS = (
    ("last", "price"),
    ("volume_24h", "volume_24_h"),
    ("high_24h", "high_24_h"),
    ("low_24h", "low_24_h"),
    ("change_pct_24h", "price_percent_chg_24_h"),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame: its number on the connection, the venue's time, and what it says."""

    sequence: int | None
    at_us: int | None
    said: list[Said]


def read(frame: bytes) -> Frame:
    """What a WebSocket frame says. Unknown channels say nothing; what cannot be understood is `Unreadable`."""
    sequence: int | None = None
    try:
        message = parse_json(frame)
        channel = message.get("channel")
        if channel is None:
            return Frame(None, None, _without_channel(message))
        sequence = whole_number(message["sequence_num"])
        at_us = iso_to_us(message["timestamp"])
        reader = _CHANNELS.get(channel)
        return Frame(sequence, at_us, reader(message["events"], at_us) if reader else [])
    except _READING as error:
        return Frame(sequence, None, [explained(error, frame)])


def _without_channel(message: dict[str, Any]) -> list[Said]:
    if message.get("type") != "error":
        return []
    text = str(message.get("message"))
    named = _PRODUCT.search(text)
    if named:
        return [SubscriptionRefused(None, canonical_product(named[0]), text)]
    return [VenueNotice("error", text)]


def _trades(events: list[dict[str, Any]], at_us: int) -> list[Said]:
    said: list[Said] = []
    bad: list[Said] = []
    for event in events:
        by_product: dict[str, list[Row]] = {}
        for element in reversed(event["trades"]):
            try:
                by_product.setdefault(canonical_product(element["product_id"]), []).append(trade_row(element))
            except _READING as error:
                bad.append(explained(error, element))
        snapshot = event["type"] == "snapshot"
        said += [TradeFrame(product, rows, snapshot) for product, rows in by_product.items()]
    return said + bad


def trade_row(element: dict[str, Any]) -> Row:
    """One trade, of the stream or of REST."""
    return {
        "trade_id": whole_number(element["trade_id"]),
        "timestamp_us": iso_to_us(element["time"]),
        "price": decimal_text(element["price"]),
        "quantity": decimal_text(element["size"]),
        "taker_side": _TAKER.get(element["side"], "unknown"),
    }


def _tickers(events: list[dict[str, Any]], at_us: int) -> list[Said]:
    said: list[Said] = []
    for event in events:
        for element in event["tickers"]:
            try:
                if not (element.get("best_bid") and element.get("best_ask")):
                    continue  # nobody bids or asks
                values: Row = {
                    "bid": decimal_text(element["best_bid"]),
                    "ask": decimal_text(element["best_ask"]),
                    "bid_size": decimal_text(element["best_bid_quantity"]),
                    "ask_size": decimal_text(element["best_ask_quantity"]),
                    "vwap_24h": None,
                }
                for ours, theirs in _TICKER_EXTRAS:
                    given = element.get(theirs)
                    values[ours] = decimal_text(given) if given else None
                product = canonical_product(element["product_id"])
                said.append(TickerFrame(product, at_us, values, event["type"] == "snapshot"))
            except _READING as error:
                said.append(explained(error, element))
    return said


def _candles(events: list[dict[str, Any]], at_us: int) -> list[Said]:
    """Rows without `final`, oldest first: the venue does not say whether a candle is still running."""
    said: list[Said] = []
    bad: list[Said] = []
    for event in events:
        by_product: dict[str, list[Row]] = {}
        for element in event["candles"]:
            try:
                row: Row = {"bucket_us": whole_number(element["start"]) * 1_000_000}
                for name in ("open", "high", "low", "close", "volume"):
                    row[name] = decimal_text(element[name])
                by_product.setdefault(canonical_product(element["product_id"]), []).append(row)
            except _READING as error:
                bad.append(explained(error, element))
        for product, rows in by_product.items():
            rows.sort(key=lambda row: int(row["bucket_us"]))
            said.append(CandleFrame(product, at_us, CANDLE_S, rows, event["type"] == "snapshot"))
    return said + bad


def _subscriptions(events: list[dict[str, Any]], at_us: int) -> list[Said]:
    return [
        Acknowledged(channel, canonical_product(product))
        for event in events
        for channel, products in event["subscriptions"].items()
        if channel != "heartbeats"
        for product in products
    ]


_CHANNELS: dict[str, Callable[[list[dict[str, Any]], int], list[Said]]] = {
    "market_trades": _trades,
    "ticker": _tickers,
    "candles": _candles,
    "subscriptions": _subscriptions,
}


def rest_trades(body: bytes) -> Page:
    """A page ascending by id. Raises `WrongAnswer`."""
    try:
        elements = parse_json(body)
    except BadData as error:
        raise WrongAnswer(f"Coinbase trades: {error}") from None
    if not isinstance(elements, list):
        raise WrongAnswer(f"Coinbase trades: {str(elements)[:200]}")
    return read_page(elements, trade_row, lambda element: whole_number(element["trade_id"]))
