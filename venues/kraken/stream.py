"""The Kraken stream: subscribe messages and limits."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from venues.events import VenueEvent
from venues.kraken import parse
from venues.kraken.rest import KrakenRest
from venues.kraken.settings import KrakenSettings
from venues.kraken.symbols import product_of
from venues.products import distinct
from venues.websocket_venue import WebSocketVenue


def products_of(settings: KrakenSettings) -> tuple[str, ...]:
    """Return the configured products: canonical ids without duplicates."""
    return distinct(settings.product_ids, product_of)


class KrakenVenue(WebSocketVenue[KrakenRest]):
    """Implements `venues.venue.Venue`."""

    name = "kraken"
    messages_per_s = 10.0  # Kraken does not publish the limit; other clients use 20
    products_per_text = 50

    def __init__(self, settings: KrakenSettings, state_dir: Path, stop: threading.Event) -> None:
        spaces = {"trades": "trade"} | ({"tickers": "ticker"} if settings.ticker else {})
        super().__init__(settings, products_of(settings), spaces, KrakenRest(settings, state_dir, stop, attempts=2))

    def subscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        return self._text("subscribe", request, channel, products, {"snapshot": True})

    def unsubscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        return self._text("unsubscribe", request, channel, products, {})

    def _text(
        self, method: str, request: int, channel: str, products: Sequence[str], more: Mapping[str, object]
    ) -> str:
        """Return a message about the products, in the venue's spelling."""
        self._rest.spelling.learn_soon(products)
        symbols = [self._rest.spelling.of(product).symbol for product in products]
        params: dict[str, object] = {"channel": channel, "symbol": symbols}
        if channel == "ticker":
            params["event_trigger"] = "bbo"  # on every change of bid or ask, not only with trades
        return json.dumps({"method": method, "params": {**params, **more}, "req_id": request})

    def read(self, frame: bytes) -> list[VenueEvent]:
        return parse.read(frame)
