"""The Bitstamp stream: one channel per product. The venue may ask for a new connection."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

from venues.bitstamp import parse
from venues.bitstamp.rest import BitstampRest
from venues.bitstamp.settings import BitstampSettings
from venues.bitstamp.symbols import symbol_of
from venues.events import VenueEvent
from venues.products import by_symbol
from venues.snapshots import Snapshots
from venues.trade_windows import newest
from venues.websocket_venue import WebSocketVenue


def products_of(settings: BitstampSettings) -> tuple[str, ...]:
    """Return the configured products: canonical ids without duplicates. Raises `WrongUse` for two with one symbol."""
    return tuple(by_symbol(settings, symbol_of).values())


class BitstampVenue(WebSocketVenue[BitstampRest]):
    """Implements `venues.venue.Venue`.

    The venue sends no snapshot, so the newest trades are fetched by REST. Order books change many times a second, so a
    connection without any frame is dead.
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

    def read(self, frame: bytes) -> list[VenueEvent]:
        return self._snapshots.with_fetched(parse.read(frame, self._by_symbol))


def _text(event: str, channel: str, product: str) -> str:
    return json.dumps({"event": event, "data": {"channel": f"{channel}_{symbol_of(product)}"}})
