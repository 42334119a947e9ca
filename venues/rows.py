"""Build rows from the values that a venue sent. Every value is checked; a malformed one raises one of `READING`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from pipeline.core.products import TakerSide
from pipeline.core.times import iso_to_us
from schemas.records import Quote, TradeRow
from venues.events import BadElements, TradeFrame, VenueEvent, decimal_text, sane_time, whole_number

R = TypeVar("R")


def iso_time(text: Any) -> int:
    """Convert an ISO 8601 time to µs since 1970."""
    return sane_time(iso_to_us(text))


def trade_row(number: Any, at_us: int, price: Any, quantity: Any, taker_side: TakerSide) -> TradeRow:
    """Return a trade; price and quantity stay as written."""
    return TradeRow(whole_number(number), at_us, decimal_text(price), decimal_text(quantity), taker_side)


def quote_of(bid: Any, ask: Any, bid_size: Any, ask_size: Any) -> Quote:
    """Return the best bid and ask with their sizes."""
    return Quote(decimal_text(bid), decimal_text(ask), decimal_text(bid_size), decimal_text(ask_size))


def quote_with_statistics(
    element: dict[str, Any], best: tuple[str, str, str, str], statistics: Iterable[tuple[str, str]], bad: BadElements
) -> Quote:
    """Return the best bid and ask and the statistics of a ticker.

    `best`: the venue's names of bid, ask and their sizes. `statistics`: pairs of our name and the venue's; a malformed
    figure is added to `bad` and omitted.
    """
    bid, ask, bid_size, ask_size = (decimal_text(element[name]) for name in best)
    return Quote(bid, ask, bid_size, ask_size, **bad.statistics(element, statistics))


def by_product(rows: Iterable[tuple[str, R]]) -> dict[str, list[R]]:
    """Group pairs of product and row by product, keeping the order of rows."""
    found: dict[str, list[R]] = {}
    for product, row in rows:
        found.setdefault(product, []).append(row)
    return found


def trade_frames(rows: Iterable[tuple[str, TradeRow]], snapshot: bool) -> list[VenueEvent]:
    """Return one event per product, from pairs of product and trade."""
    return [TradeFrame(product, its, snapshot) for product, its in by_product(rows).items()]
