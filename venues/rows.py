"""Rows from the values that a venue sent. Each value is checked; what cannot be read raises one of `READING`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from pipeline.core.products import TakerSide
from pipeline.core.times import iso_to_us
from schemas.records import Quote, TradeRow
from venues.events import BadElements, Said, TradeFrame, decimal_text, sane_time, whole_number

R = TypeVar("R")


def iso_time(text: Any) -> int:
    """Return a time as ISO 8601 in µs since 1970."""
    return sane_time(iso_to_us(text))


def trade_row(number: Any, at_us: int, price: Any, quantity: Any, taker_side: TakerSide) -> TradeRow:
    """Return a trade from its id, time, price and quantity; prices and quantities stay as written."""
    return TradeRow(whole_number(number), at_us, decimal_text(price), decimal_text(quantity), taker_side)


def quote_of(bid: Any, ask: Any, bid_size: Any, ask_size: Any) -> Quote:
    """Return the best bid and ask with their sizes."""
    return Quote(decimal_text(bid), decimal_text(ask), decimal_text(bid_size), decimal_text(ask_size))


def quote_with_statistics(
    element: dict[str, Any], best: tuple[str, str, str, str], statistics: Iterable[tuple[str, str]], bad: BadElements
) -> Quote:
    """Return the best bid and ask and the statistics of a ticker.

    `best`: the venue's names of bid, ask and their sizes. `statistics`: our name and the venue's of each; an odd one is
    added to `bad` and left out.
    """
    bid, ask, bid_size, ask_size = (decimal_text(element[name]) for name in best)
    return Quote(bid, ask, bid_size, ask_size, **bad.statistics(element, statistics))


def by_product(rows: Iterable[tuple[str, R]]) -> dict[str, list[R]]:
    """Return the rows of each product, in their order, from pairs of product and row."""
    found: dict[str, list[R]] = {}
    for product, row in rows:
        found.setdefault(product, []).append(row)
    return found


def trade_frames(rows: Iterable[tuple[str, TradeRow]], snapshot: bool) -> list[Said]:
    """Return an event for each product, from pairs of product and trade."""
    return [TradeFrame(product, its, snapshot) for product, its in by_product(rows).items()]
