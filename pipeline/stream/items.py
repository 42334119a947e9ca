"""Parse messages into items for charts and candles.

A topic may hold anything. What the writer would refuse is omitted here too, by the same rules: otherwise it would be
emitted, and the valid trade with its id suppressed as a duplicate. A message with more trades than a chart draws
becomes an interval to be loaded again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import schemas
from pipeline.broker.topics import check_address
from pipeline.core.times import HOUR_US, OLDEST_US
from schemas import fields
from schemas.columns import decode_quote_hour
from schemas.decimals import plain_digits
from schemas.records import TickerMessage, TradeRow, TradesMessage, decode_as
from venues.registry import check_kind

TICKS_MOST = 2_000


@dataclass(frozen=True, slots=True)
class Tick:
    """A trade, or a ticker's bid. `order`: the trade id, or the ticker's `seq`. `ask`: None for a trade."""

    timestamp_us: int
    order: int
    price: Decimal
    size: Decimal
    received_at_us: int
    heard_s: float  # monotonic
    ask: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """The interval `[from_us, to_us)` of an instrument is about to change in the database: for quotes, once the ledger
    has an answer as new as `fetched_at_us`."""

    from_us: int
    to_us: int
    fetched_at_us: int | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """An event of `control/gaps`, as `gap.avsc`."""

    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Link:
    """The reader was connected or disconnected."""

    up: bool


Item = Tick | Past | Gap | Link


def _decimal(text: str) -> Decimal | None:
    """Return the number as the writer stores it; None for a text that it refuses."""
    try:
        return Decimal(plain_digits(text))
    except ValueError:
        return None


def _past(times: list[int], latest_us: int, fetched_at_us: int | None = None) -> list[Item]:
    """Return the interval of valid times as a list of one item, or of none."""
    good = [at for at in times if OLDEST_US <= at <= latest_us]
    return [Past(min(good), max(good) + 1, fetched_at_us)] if good else []


def items_of_trades(topic: str, data: bytes) -> list[Item]:
    """Return the ticks of a message; of a history message, or of a very long one, only their interval."""
    message = trades_message(topic, data)
    trades = message.trades
    if message.origin == "history" or len(trades) > TICKS_MOST:
        return _past([t.timestamp_us for t in trades], fields.latest_us(message.origin))
    # A repair is stored whatever its time, but must not move a chart into another century.
    latest_us = fields.latest_us("live")
    return [tick for tick, _ in ticks_of(message) if tick.timestamp_us <= latest_us]


def trades_message(topic: str, data: bytes) -> TradesMessage:
    """Decode a message. Raises `BadData` for one that the writer refuses as a whole."""
    message = decode_as(TradesMessage, data)
    check_address(topic, message.venue, message.product_id, message.asset_class)
    check_kind("trades", message.venue)
    fields.check("trades", message)
    return message


def ticks_of(message: TradesMessage) -> Iterator[tuple[Tick, TradeRow]]:
    """Yield the trades of a message that the writer would store."""
    now, latest_us = time.monotonic(), fields.latest_us(message.origin)
    for row in message.trades:
        price, size = _decimal(row.price), _decimal(row.quantity)
        if not price or size is None or fields.ID.problem(row.trade_id):
            continue
        if OLDEST_US <= row.timestamp_us <= latest_us:
            yield Tick(row.timestamp_us, row.trade_id, price, size, message.received_at_us, now), row


def items_of_ticker(topic: str, data: bytes) -> list[Item]:
    """Return the tick of a ticker; none for one that the writer would refuse. Raises `BadData`."""
    message = decode_as(TickerMessage, data)
    check_address(topic, message.venue, message.product_id, message.asset_class)
    check_kind("tickers", message.venue)
    fields.check("ticker", message)
    bid, ask, size = _decimal(message.bid), _decimal(message.ask), _decimal(message.bid_size)
    if not (bid and ask) or size is None or _decimal(message.ask_size) is None or fields.SEQ.problem(message.seq):
        return []
    if not OLDEST_US <= message.timestamp_us <= fields.latest_us(message.origin):
        return []
    return [Tick(message.timestamp_us, message.seq, bid, size, message.received_at_us, time.monotonic(), ask)]


def items_of_hour(topic: str, data: bytes) -> list[Item]:
    """Return the interval of an hour of quotes. Raises `BadData`."""
    header = decode_quote_hour(data).header
    check_address(topic, header.venue, header.product_id, header.asset_class)
    check_kind("quotes", header.venue)
    fields.check("quotes", header)
    start, fetched, latest_us = header.hour_start_us, header.fetched_at_us, fields.latest_us("live")
    return _past([start, start + HOUR_US - 1], latest_us, fetched) if max(start, fetched) <= latest_us else []


def items_of_gap(_topic: str, data: bytes) -> list[Item]:
    """Return the gap event. Raises what the decoder raises."""
    return [Gap(schemas.decode("gap", data))]


PARSERS = {"trades": items_of_trades, "tickers": items_of_ticker, "quotes": items_of_hour, "control": items_of_gap}
