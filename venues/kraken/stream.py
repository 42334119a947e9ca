"""The Kraken stream: subscribe messages and limits."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

from venues.events import Said
from venues.kraken import parse
from venues.kraken.rest import KrakenRest
from venues.kraken.settings import KrakenSettings
from venues.kraken.symbols import product_of
from venues.products import distinct

SYMBOLS_PER_REQUEST = 50
NAMESPACES = {"trade": "trades", "ticker": "tickers"}


def products_of(settings: KrakenSettings) -> tuple[str, ...]:
    """Return the configured products: canonical ids without duplicates."""
    return distinct(settings.product_ids, product_of)


class KrakenVenue:
    """Implements `venues.venue.Venue`."""

    name = "kraken"
    watches_trades = True
    messages_per_s = 10.0  # Kraken does not publish the limit; other clients use 20
    products_per_text = SYMBOLS_PER_REQUEST

    def __init__(self, settings: KrakenSettings, state_dir: Path, stop: threading.Event) -> None:
        self.url = settings.ws_url
        self.products = products_of(settings)
        self.channels: tuple[str, ...] = ("trade", "ticker") if settings.ticker else ("trade",)
        self.spaces = {NAMESPACES[channel]: channel for channel in self.channels}
        self.rest_per_s = settings.rest_rate
        self.frame_timeout_s = settings.ws_timeout
        self.quiet_s = settings.quiet_seconds
        # Few attempts: a silent product is checked again soon anyway.
        self._rest = KrakenRest(settings, state_dir, stop, attempts=2)

    def opened(self) -> list[str]:
        return []  # no state per connection

    def subscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        params: dict[str, object] = {"channel": channel, "symbol": self._symbols(products)}
        if channel == "ticker":
            params["event_trigger"] = "bbo"  # on every change of bid or ask, not only with trades
        params["snapshot"] = True
        return json.dumps({"method": "subscribe", "params": params, "req_id": request})

    def unsubscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        params: dict[str, object] = {"channel": channel, "symbol": self._symbols(products)}
        if channel == "ticker":
            params["event_trigger"] = "bbo"
        return json.dumps({"method": "unsubscribe", "params": params, "req_id": request})

    def _symbols(self, products: Sequence[str]) -> list[str]:
        """Return the products in the venue's spelling."""
        self._rest.spelling.learn_soon(products)
        return [self._rest.spelling.of(product).symbol for product in products]

    def read(self, frame: bytes) -> list[Said]:
        return parse.read(frame)

    def newest_trade(self, product_id: str) -> int:
        return self._rest.newest_trade(product_id)
