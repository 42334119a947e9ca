"""Bitstamp's REST trades: those of the last minute, hour or day. There is no cursor, neither by id nor by time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from venues.bitstamp import parse
from venues.bitstamp.settings import BitstampSettings
from venues.bitstamp.symbols import symbol_of
from venues.rest.client import Answer, Client
from venues.rest.date_clock import date_us
from venues.rest.rate_limit import MARGIN, RateLimit
from venues.trade_windows import Recent

MINUTE, HOUR, DAY = 60, 3600, 86_400
_NAMES = {MINUTE: "minute", HOUR: "hour", DAY: "day"}


class BitstampRest:
    """Implements `venues.trade_windows.WindowSource`. Raises what `venues.rest.client.Client.get` raises."""

    venue = "bitstamp"
    reaches_s: Sequence[int] = tuple(_NAMES)

    def __init__(
        self, settings: BitstampSettings, state_dir: Path, stop: threading.Event, *, attempts: int = 6
    ) -> None:
        self._client = Client("bitstamp", settings.rest_url, stop, attempts=attempts)
        self._limit = RateLimit(state_dir, "bitstamp", settings.rest_rate)
        self.calls_per_s = settings.rest_rate / MARGIN

    def recent(self, product_id: str, reach_s: int) -> Recent:
        """See `WindowSource`."""
        path = f"transactions/{symbol_of(product_id)}/"
        return self._client.get(path, {"time": _NAMES[reach_s]}, self._limit, _recent)


def _recent(answer: Answer) -> Recent:
    return Recent(parse.rest_trades(answer.body), date_us(answer.headers.get("Date")))
