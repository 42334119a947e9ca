"""What stands on the topics, as charts and candles take it.

Anything may stand on a topic. What the writer would refuse is left out here too, and a message of more trades than
anybody draws is a span to load again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import schemas
from pipeline.core.runtime import now_us
from pipeline.core.times import OLDEST_US
from schemas.columns import decode_quote_hour
from schemas.records import TickerMessage, TradeRow, TradesMessage, decode_as

TICKS_MOST = 2_000
# As the writer: a row may be ahead of our clock by a day.
_AHEAD_US = 86_400_000_000
_HOUR_US = 3_600_000_000
_DIGITS = 40


@dataclass(frozen=True, slots=True)
class Tick:
    """A trade, or a ticker's bid. `order` is the trade id, or the `seq` of one instant; `ask` only a ticker has."""

    timestamp_us: int
    order: int
    price: Decimal
    size: Decimal
    received_at_us: int
    heard_s: float  # monotonic
    ask: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """`[from_us, to_us)` of an instrument is about to change in the database; for quotes, when the ledger has an
    answer as new as `fetched_at_us`."""

    from_us: int
    to_us: int
    fetched_at_us: int | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """An event of `control/gaps`, as `gap.avsc`."""

    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Link:
    """Whether the reader is connected."""

    up: bool


Item = Tick | Past | Gap | Link


def _decimal(text: str) -> Decimal | None:
    """None for what the writer would not store: 16 digits, 18 decimals."""
    try:
        value = Decimal(text) if len(text) <= _DIGITS else None
    except InvalidOperation:
        return None
    if value is None or not value.is_finite() or (value and not -18 <= value.adjusted() < 16):
        return None
    return value


def _time_ok(timestamp_us: int) -> bool:
    return OLDEST_US <= timestamp_us <= now_us() + _AHEAD_US


def _past(times: list[int], fetched_at_us: int | None = None) -> list[Item]:
    """The span of what is not drawn one by one."""
    good = [at for at in times if _time_ok(at)]
    return [Past(min(good), max(good) + 1, fetched_at_us)] if good else []


def items_of_trades(data: bytes) -> list[Item]:
    """Ticks of a message, or the span of a history message, whose trades nobody wants one by one."""
    message = decode_as(TradesMessage, data)
    trades = message.trades
    if message.origin == "history" or len(trades) > TICKS_MOST:
        return _past([t.timestamp_us for t in trades])
    return [tick for tick, _ in ticks_of(message)]


def ticks_of(message: TradesMessage) -> Iterator[tuple[Tick, TradeRow]]:
    """The trades of a message that the writer would store."""
    now = time.monotonic()
    for row in message.trades:
        price, size = _decimal(row.price), _decimal(row.quantity)
        good = price is not None and price > 0 and size is not None and size >= 0
        if price is not None and size is not None and good and _time_ok(row.timestamp_us):
            yield Tick(row.timestamp_us, row.trade_id, price, size, message.received_at_us, now), row


def items_of_ticker(data: bytes) -> list[Item]:
    message = decode_as(TickerMessage, data)
    bid, size = _decimal(message.bid), _decimal(message.bid_size)
    if bid is None or size is None or bid <= 0 or size < 0 or not _time_ok(message.timestamp_us):
        return []
    ask = _decimal(message.ask)
    return [Tick(message.timestamp_us, message.seq, bid, size, message.received_at_us, time.monotonic(), ask)]


def items_of_hour(data: bytes) -> list[Item]:
    header = decode_quote_hour(data).header
    start, fetched = header.hour_start_us, header.fetched_at_us
    return _past([start, start + _HOUR_US - 1], fetched) if _time_ok(start) and _time_ok(fetched) else []


def items_of_gap(data: bytes) -> list[Item]:
    return [Gap(schemas.decode("gap", data))]


PARSERS = {"trades": items_of_trades, "tickers": items_of_ticker, "quotes": items_of_hour, "control": items_of_gap}
