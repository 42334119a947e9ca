"""Parse Kraken's payloads: pure functions.

WebSocket v2, `trade` (docs.kraken.com/exchange/api-reference/spot-websocket)::

    {"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":84095.7,"qty":0.00275723,
     "ord_type":"limit","trade_id":109183886,"timestamp":"2026-09-26T18:09:13.157776Z"}]}

`side` is the taker's, prices are JSON numbers, the time is truncated to µs. `ticker`::

    {"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":83744.2,"bid_qty":0.56251979,"ask":83744.3,
     "ask_qty":0.00044780,"last":83744.3,"volume":3156.84782110,"vwap":84174.6,"low":83163.6,"high":85247.4,
     "change":-429.3,"change_pct":-0.51,"trades":135262,"timestamp":"2026-09-25T17:48:26.844359Z"}]}

Older servers send it without `timestamp`. Replies to requests, one per symbol::

    {"method":"subscribe","result":{"channel":"trade","snapshot":true,"symbol":"BTC/USD"},"success":true,...}
    {"error":"Currency pair not supported XBT/USD","method":"subscribe","success":false,"symbol":"XBT/USD",...}
    {"error":"Already subscribed","method":"subscribe","success":false,"symbol":"BTC/USD",...}
    {"Error":"Exceeded msg rate"}

A reply carries the `req_id` of its request, and `time_in` and `time_out` by the venue's clock.

REST `Trades` (price, volume, seconds as a float, side, order type, misc, id), under Kraken's name of the pair::

    {"error":[],"result":{"XBTUSDT":[["105433.60000","0.00027625",1762795433.9717445,"b","l","",10218208]],
     "last":"1762798945374164210"}}
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from pipeline.core.errors import BadData, Refused, Throttled, Unavailable, WrongAnswer
from pipeline.core.products import TakerSide
from pipeline.core.times import seconds_to_us
from schemas.records import TradeRow
from venues.events import (
    MAX_DETAIL,
    READING,
    Acknowledged,
    BadElements,
    SubscriptionRefused,
    TickerFrame,
    VenueEvent,
    VenueNotice,
    VenueTime,
    parse_frame,
    parse_json,
    unreadable,
    whole_number,
)
from venues.kraken.symbols import product_of
from venues.rest.page import Page, read_page
from venues.rows import iso_time, quote_with_statistics, trade_frames, trade_row

_SIDES: dict[Any, TakerSide] = {"buy": "buy", "sell": "sell", "b": "buy", "s": "sell"}
_NAMED = re.compile(r"\b[A-Za-z0-9]{1,30}/[A-Za-z0-9]{2,20}\b")


def read(frame: bytes) -> list[VenueEvent]:
    """Parse a WebSocket frame. Never raises: unknown channels give no events, malformed elements `Unreadable`."""
    try:
        message = parse_frame(frame)
        channel = message.get("channel")
        if channel == "trade":
            return _trades(message)
        if channel == "ticker":
            return _tickers(message)
        if channel == "status":
            return [VenueNotice("status", str(message["data"][0]["system"])[:MAX_DETAIL])]
        if "method" in message:
            return _reply(message)
        if "Error" in message or "error" in message:
            return [VenueNotice("error", str(message.get("Error") or message.get("error"))[:MAX_DETAIL])]
        return []
    except READING as error:
        return [unreadable(error, frame)]


def _trades(message: dict[str, Any]) -> list[VenueEvent]:
    """One `TradeFrame` per product of the message; a malformed element does not affect the others."""
    bad = BadElements()
    rows = bad.each(message["data"], _trade)
    return trade_frames(rows, message.get("type") == "snapshot") + bad.all()


def _trade(element: dict[str, Any]) -> tuple[str, TradeRow]:
    taker = _SIDES.get(element["side"], "unknown")
    row = trade_row(element["trade_id"], iso_time(element["timestamp"]), element["price"], element["qty"], taker)
    return product_of(element["symbol"]), row


def _tickers(message: dict[str, Any]) -> list[VenueEvent]:
    bad = BadElements()

    def ticker(element: dict[str, Any]) -> TickerFrame:
        product = product_of(element["symbol"])
        quote = quote_with_statistics(element, ("bid", "ask", "bid_qty", "ask_qty"), _TICKER_EXTRAS, bad)
        # Bid and ask are kept if the time is absent or malformed.
        at_us = bad.tried(lambda one: iso_time(one["timestamp"]) if one.get("timestamp") else None, element)
        return TickerFrame(product, at_us, quote, message.get("type") == "snapshot")

    return [*bad.each(message["data"], ticker), *bad.all()]


_TICKER_EXTRAS = (
    ("last", "last"),
    ("volume_24h", "volume"),
    ("vwap_24h", "vwap"),
    ("high_24h", "high"),
    ("low_24h", "low"),
    ("change_pct_24h", "change_pct"),
)


def _reply(message: dict[str, Any]) -> list[VenueEvent]:
    """Parse the reply to a request: the venue's time and, for a subscription, its acceptance or refusal."""
    events: list[VenueEvent] = []
    with suppress(KeyError, BadData):  # older servers do not send it
        events.append(VenueTime(iso_time(message["time_out"])))
    result = message.get("result") or {}
    reason = str(message.get("error", "no reason given"))[:MAX_DETAIL]
    if message["method"] != "subscribe":
        if message.get("success") is False:
            events.append(VenueNotice("error", f"{str(message['method'])[:MAX_DETAIL]}: {reason}"))
        return events
    number = message.get("req_id")
    request = number if type(number) is int else None
    channel = result.get("channel") or message.get("channel")
    product = _product_in(result.get("symbol") or message.get("symbol"), reason)
    if message.get("success") or reason.startswith("Already subscribed"):
        if product:
            events.append(Acknowledged(channel if isinstance(channel, str) else None, product, request))
    else:
        events.append(SubscriptionRefused(channel if isinstance(channel, str) else None, product, reason, request))
    return events


def _product_in(symbol: Any, reason: str) -> str | None:
    """Return the product that a reply is about, if it names one; some refusals name it only in their text."""
    named = _NAMED.search(reason)
    for text in (symbol, named and named[0]):
        try:
            if text:
                return product_of(text)
        except READING:
            continue
    return None


def rest_result(body: bytes) -> Any:
    """Return `result` of a REST answer. Errors come with HTTP status 200: raises `Throttled`, `Refused`, `Unavailable`
    or `WrongAnswer` accordingly."""
    try:
        answer = parse_json(body)
    except BadData as error:
        raise WrongAnswer(f"Kraken's answer is not JSON: {error}") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("error"), list):
        raise WrongAnswer("Kraken's answer has no error list")
    errors = [str(error) for error in answer["error"] if not str(error).startswith("W")]
    if errors:
        raise _rest_error("; ".join(errors))
    if "result" not in answer:
        raise WrongAnswer("Kraken's answer has no result")
    return answer["result"]


def _rest_error(text: str) -> Refused | Unavailable:
    if "Rate limit" in text or "Too many requests" in text or "lockout" in text:
        return Throttled(f"Kraken: {text}")
    if text.startswith(("EQuery", "EGeneral:Invalid", "EGeneral:Permission", "EGeneral:Unknown")):
        return Refused(f"Kraken: {text}")
    return Unavailable(f"Kraken: {text}")


def rest_trades(body: bytes, names: set[str]) -> tuple[Page, str]:
    """Parse REST `Trades` into (page ascending by id, `last` as text).

    `names`: what the requested pair may be called. An answer about another pair, which a cache in between may return,
    raises `WrongAnswer`. Raises what `rest_result` raises.
    """
    result = rest_result(body)
    try:
        last = str(result["last"])
        ((name, table),) = ((key, value) for key, value in result.items() if key != "last")
        if name not in names or not last.isdecimal() or len(last) > 19:
            raise ValueError(f"trades of {name[:40]!r}, not of {min(names, key=len)}, or last is {last[:40]!r}")
        return read_page(list(table), rest_row, lambda row: whole_number(row[6])), last
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise WrongAnswer(f"Kraken Trades has an unknown format: {type(error).__name__}: {error}") from None


def rest_row(row: list[Any]) -> TradeRow:
    """Parse one row of REST `Trades`."""
    return trade_row(row[6], seconds_to_us(str(row[2])), row[0], row[1], _SIDES.get(row[3], "unknown"))
