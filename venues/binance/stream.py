"""Binance's side of a live connection."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

from venues.binance import parse
from venues.binance.rest import BinanceRest
from venues.binance.settings import BinanceSettings
from venues.binance.symbols import symbol_of
from venues.events import Acknowledged, Said, SubscriptionRefused
from venues.products import by_symbol
from venues.snapshots import Snapshots
from venues.websocket_venue import WebSocketVenue

# The venue's own heartbeats are pings of the protocol, which say nothing of what is behind it. This comes each second.
HEARTBEAT = "btcusdt@miniTicker"
NOBODYS = 0  # number of requests whose answer concerns no product
# What the venue does not send itself. It reaches back over a reconnect: 500 trades of BTC-USDT are some ten seconds.
SNAPSHOT_TRADES = 500


def products_of(settings: BinanceSettings) -> tuple[str, ...]:
    """The configured products, canonical, each once. Raises `WrongUse` for two that Binance writes alike."""
    return tuple(by_symbol(settings, symbol_of).values())


class BinanceVenue(WebSocketVenue[BinanceRest]):
    """See `venues.venue.Venue`.

    An acknowledgement says nothing about whether there is such a symbol: the venue accepts any. So the listing is
    looked at before it counts. After that the newest trades are fetched by REST, as other venues send them by
    themselves: from then on a silence means something, and what a reconnect has cost is there again.
    """

    name = "binance"
    # A connection takes 5 messages a second, pongs included, and 1,024 streams.
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

    def read(self, frame: bytes) -> list[Said]:
        said = [self._rest.listing.checked(one) for one in parse.read(frame, self._asked)]
        for one in said:
            if isinstance(one, Acknowledged | SubscriptionRefused):  # a number is answered once
                self._asked.requests.pop(one.request or NOBODYS, None)
        return self._snapshots.with_fetched(said)


def _streams(channel: str, products: Sequence[str]) -> list[str]:
    return [f"{symbol_of(product).lower()}@{channel}" for product in products]


def _text(method: str, streams: list[str], number: int) -> str:
    return json.dumps({"method": method, "params": streams, "id": number})
