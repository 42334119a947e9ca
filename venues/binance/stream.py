"""The Binance stream: subscribe messages and limits."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

from venues.binance import parse
from venues.binance.rest import BinanceRest
from venues.binance.settings import BinanceSettings
from venues.binance.symbols import symbol_of
from venues.events import Acknowledged, SubscriptionRefused, VenueEvent
from venues.products import by_symbol
from venues.snapshots import Snapshots
from venues.websocket_venue import WebSocketVenue

# Sent every second. The venue's own heartbeats are WebSocket pings, which do not show that its market data is alive.
HEARTBEAT = "btcusdt@miniTicker"
NOBODYS = 0  # number of requests whose answer concerns no product
# The venue sends no snapshot. This many cover a reconnect: 500 trades of BTC-USDT are some ten seconds.
SNAPSHOT_TRADES = 500


def products_of(settings: BinanceSettings) -> tuple[str, ...]:
    """Return the configured products: canonical ids without duplicates. Raises `WrongUse` for two with one symbol."""
    return tuple(by_symbol(settings, symbol_of).values())


class BinanceVenue(WebSocketVenue[BinanceRest]):
    """Implements `venues.venue.Venue`.

    The venue acknowledges any symbol, even one that does not exist, so an acknowledgement is checked against the
    listing. Then the newest trades are fetched by REST, because the venue sends no snapshot: they fill the gap of a
    reconnect, and without them the silence of a product would mean nothing.
    """

    name = "binance"
    # Binance allows 5 messages per second, pongs included, and 1,024 streams per connection.
    messages_per_s = 4.0
    products_per_text = 100

    def __init__(self, settings: BinanceSettings, state_dir: Path, stop: threading.Event) -> None:
        spaces = {"trades": "trade"} | ({"tickers": "bookTicker"} if settings.ticker else {})
        super().__init__(settings, products_of(settings), spaces, BinanceRest(settings, state_dir, stop, attempts=2))
        self.url = f"{settings.ws_url}?timeUnit=MICROSECOND"
        self._asked = parse.Asked(by_symbol(settings, symbol_of))
        self._snapshots = Snapshots(
            self.name, "trade", self.products, lambda product: self._rest.newest(product, SNAPSHOT_TRADES).rows
        )

    def opened(self) -> list[str]:
        self._asked.requests.clear()
        return [_text("SUBSCRIBE", [HEARTBEAT], NOBODYS)]

    def subscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        self._rest.listing.learn_soon(products)
        self._asked.requests[request] = (channel, tuple(products))
        return _text("SUBSCRIBE", _streams(channel, products), request)

    def unsubscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        return _text("UNSUBSCRIBE", _streams(channel, products), request)

    def read(self, frame: bytes) -> list[VenueEvent]:
        events = [self._rest.listing.checked(one) for one in parse.read(frame, self._asked)]
        for one in events:
            if isinstance(one, Acknowledged | SubscriptionRefused):  # each number is answered once
                self._asked.requests.pop(one.request or NOBODYS, None)
        return self._snapshots.with_fetched(events)


def _streams(channel: str, products: Sequence[str]) -> list[str]:
    return [f"{symbol_of(product).lower()}@{channel}" for product in products]


def _text(method: str, streams: list[str], number: int) -> str:
    return json.dumps({"method": method, "params": streams, "id": number})
