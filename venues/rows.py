"""Rows from the values that a venue sent. Each value is checked; what cannot be read raises one of `READING`."""

from __future__ import annotations

from typing import Any

from pipeline.core.products import TakerSide
from schemas.records import Quote, TradeRow
from venues.events import decimal_text, whole_number


def trade_row(number: Any, at_us: int, price: Any, quantity: Any, taker_side: TakerSide) -> TradeRow:
    """Return a trade from its id, time, price and quantity; prices and quantities stay as written."""
    return TradeRow(whole_number(number), at_us, decimal_text(price), decimal_text(quantity), taker_side)


def quote_of(bid: Any, ask: Any, bid_size: Any, ask_size: Any, **statistics: str) -> Quote:
    """Return the best bid and ask. `statistics` are those that `BadElements.statistics` has read."""
    return Quote(decimal_text(bid), decimal_text(ask), decimal_text(bid_size), decimal_text(ask_size), **statistics)
