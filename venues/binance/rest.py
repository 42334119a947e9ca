"""Binance's REST trades: pages ascending from an id. Long ranges come from the public archive instead.

`historicalTrades` required a key until 2023-08 (its security type was MARKET_DATA) and no longer does, according to the
venue's documentation and its own client (binance-connector-python 3.2.0). A deployment that still requires one answers
-2014; then set `BINANCE_API_KEY`. Nothing else depends on the key: rate limits count per IP address.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import Refused
from pipeline.core.runtime import now_us
from venues.binance import parse
from venues.binance.settings import BinanceSettings
from venues.binance.symbols import listed_in, symbol_of
from venues.rest.ascending import AscendingTrades
from venues.rest.client import Answer
from venues.rest.daily_files import Archive
from venues.rest.in_background import InBackground
from venues.rest.listing import Listing
from venues.rest.page import Page
from venues.rest.venue_rest import PAGE

# Of the 6,000 per minute and IP address, which other programs may use too.
MOST_WEIGHT = 5_000
WEIGHT = "X-MBX-USED-WEIGHT-1M"
KEY_WANTED = ("-2014", "-2015")
INVALID_SYMBOL = "-1121"


class BinanceRest(AscendingTrades):
    """Implements `venues.trade_walk.Source`. Raises what `venues.rest.client.Client.get` raises."""

    venue, title, untraded = "binance", "Binance", "has no trade of"

    def __init__(self, settings: BinanceSettings, state_dir: Path, stop: threading.Event, *, attempts: int = 6) -> None:
        headers = {"X-MBX-TIME-UNIT": "MICROSECOND"}
        if settings.api_key is not None:
            headers["X-MBX-APIKEY"] = settings.api_key.get_secret_value()
        super().__init__(settings, state_dir, stop, attempts=attempts, headers=headers)
        self.listing = Listing(self.title, symbol_of, self._listed, InBackground(self.venue, "exchangeInfo"))
        if settings.archive:
            self.archive = Archive(
                self.venue, settings.archive_url, parse.archive_path, parse.archive_row, state_dir, stop
            )

    def archive_symbol(self, product_id: str) -> str:
        return symbol_of(product_id)

    def prepare(self, products: Sequence[str]) -> None:
        """See `Source`: learns which products Binance lists. Requests for others raise `Refused`."""
        self.listing.learn(products)

    def _listed(self, symbols: list[str]) -> dict[str, str] | None:
        """Request the listed products of `symbols`, by symbol; None if one of the symbols is not listed."""
        params = {"symbols": json.dumps(symbols, separators=(",", ":")), "showPermissionSets": "false"}
        try:
            return self.get("exchangeInfo", params, listed_in, may_be_old=True)
        except Refused as error:
            if INVALID_SYMBOL in str(error):
                return None
            raise

    def _ask(self, endpoint: str, product_id: str, **params: int) -> bytes:
        """Return the body of an answer about a product. Raises `Refused` if it is not listed."""
        self.listing.learn([product_id])
        if reason := self.listing.refusal(product_id):
            raise Refused(reason)
        try:
            return self.get(endpoint, {"symbol": symbol_of(product_id), **params}, self._body)
        except Refused as error:
            if any(code in str(error) for code in KEY_WANTED):
                raise Refused(f"Binance wants a valid key for {endpoint}; set BINANCE_API_KEY ({error})") from None
            raise

    def _body(self, answer: Answer) -> bytes:
        used = answer.headers.get(WEIGHT, "")
        if used.isdecimal() and int(used) > MOST_WEIGHT:
            self._limit.hold(60.0 - now_us() / 1e6 % 60.0)  # the count restarts with each minute
        return answer.body

    def newest(self, product_id: str, count: int) -> Page:
        return parse.rest_trades(self._ask("trades", product_id, limit=count))

    def trades_from(self, product_id: str, from_id: int) -> Page:
        return parse.rest_trades(self._ask("historicalTrades", product_id, fromId=from_id, limit=PAGE))

    def first_id_at(self, product_id: str, at_us: int) -> int:
        """See `Source`. One request: an aggregate names the first of its trades."""
        first = parse.first_of_aggregates(self._ask("aggTrades", product_id, startTime=max(0, at_us), limit=1))
        return self.next_id(product_id) if first is None else first
