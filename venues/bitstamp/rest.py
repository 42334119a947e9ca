"""Bitstamp's REST trades of the last minute, hour or day. There is no cursor, neither by id nor by time."""

from __future__ import annotations

from collections.abc import Sequence

from venues import trade_windows
from venues.bitstamp import parse
from venues.bitstamp.symbols import symbol_of
from venues.rest.client import Answer
from venues.rest.date_clock import date_us
from venues.rest.venue_rest import VenueRest
from venues.trade_windows import Recent

MINUTE, HOUR, DAY = 60, 3600, 86_400
_NAMES = {MINUTE: "minute", HOUR: "hour", DAY: "day"}


class BitstampRest(VenueRest):
    """Implements `venues.trade_windows.WindowSource`. Raises what `venues.rest.client.Client.get` raises."""

    venue, title = "bitstamp", "Bitstamp"
    reaches_s: Sequence[int] = tuple(_NAMES)

    def recent(self, product_id: str, reach_s: int) -> Recent:
        """See `WindowSource`."""
        return self.get(f"transactions/{symbol_of(product_id)}/", {"time": _NAMES[reach_s]}, _recent)

    def newest_trade(self, product_id: str) -> int:
        """See `Venue`."""
        return trade_windows.newest_trade(self, product_id)


def _recent(answer: Answer) -> Recent:
    return Recent(parse.rest_trades(answer.body), date_us(answer.headers.get("Date")))
