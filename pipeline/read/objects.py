"""Stored trades one by one, as the standard `Trade`: for code that works with objects. Columns are a hundred times
faster."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.read.request import Moment
from pipeline.read.ticks import trades
from schemas.trade import Trade
from venues.registry import product_at


def trade_objects(venue: str, product: str, start: Moment = None, end: Moment = None) -> Iterator[Trade]:
    """The trades of `pipeline.read.trades`, exact, by time and id."""
    columns = trades(venue, product, start, end, exact=True)
    return Trade.from_columns(product_at(venue, product), columns.numpy())
