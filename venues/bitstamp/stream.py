"""The Bitstamp stream: a channel for each product, and a venue that may ask for a new connection."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

from venues.bitstamp import parse
from venues.bitstamp.rest import BitstampRest
from venues.bitstamp.settings import BitstampSettings
from venues.bitstamp.symbols import symbol_of
from venues.events import Said
from venues.products import by_symbol
from venues.snapshots import Snapshots
from venues.trade_windows import newest
from venues.websocket_venue import WebSocketVenue


def products_of(settings: BitstampSettings) -> tuple[str, ...]:
    """The configured products, canonical, each once. Raises `WrongUse` for two that Bitstamp writes alike."""
    return tuple(by_symbol(settings, symbol_of).values())


class BitstampVenue(WebSocketVenue[BitstampRest]):
    """Implements `venues.venue.Venue`.

    Nothing is sent when a subscription begins, so the newest trades are fetched by REST. The order book changes many
    times a second; a connection without any frame is dead.
    """

    name = "bitstamp"
    messages_per_s = 10.0  # Bitstamp does not publish a limit
    products_per_text = 1

    def __init__(self, settings: BitstampSettings, state_dir: Path, stop: threading.Event) -> None:
        spaces = {"trades": parse.TRADES, "tickers": parse.BOOK}
        rest = BitstampRest(settings, state_dir, stop, attempts=2)
        super().__init__(settings, products_of(settings), spaces, rest)
        self._by_symbol = by_symbol(settings, symbol_of)
        self._snapshots = Snapshots(self.name, parse.TRADES, self.products, lambda product: newest(rest, product))

    def subscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        return _text("bts:subscribe", channel, products[0])

    def unsubscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        return _text("bts:unsubscribe", channel, products[0])

    def read(self, frame: bytes) -> list[Said]:
        return self._snapshots.with_fetched(parse.read(frame, self._by_symbol))


def _text(event: str, channel: str, product: str) -> str:
    return json.dumps({"event": event, "data": {"channel": f"{channel}_{symbol_of(product)}"}})
