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
from venues.events import Acknowledged, Said
from venues.products import by_symbol, distinct
from venues.snapshots import Snapshots
from venues.trade_windows import newest, newest_trade


def products_of(settings: BitstampSettings) -> tuple[str, ...]:
    """The configured products, canonical, each once. Raises `WrongUse` for two that Bitstamp writes alike."""
    products = distinct(settings.product_ids)
    by_symbol(products, symbol_of, "BITSTAMP_PRODUCT_IDS")
    return products


class BitstampVenue:
    """Implements `venues.venue.Venue`.

    Nothing is sent when a subscription begins, so the newest trades are fetched by REST. The order book changes many
    times a second; a connection without any frame is dead.
    """

    name = "bitstamp"
    watches_trades = True
    messages_per_s = 10.0  # Bitstamp does not publish a limit
    products_per_text = 1
    channels: tuple[str, ...] = (parse.TRADES, parse.BOOK)

    def __init__(self, settings: BitstampSettings, state_dir: Path, stop: threading.Event) -> None:
        self.url = settings.ws_url
        self.products = products_of(settings)
        self.spaces = {"trades": parse.TRADES, "tickers": parse.BOOK}
        self.rest_per_s = settings.rest_rate
        self.frame_timeout_s = settings.ws_timeout
        self.quiet_s = settings.quiet_seconds
        self._by_symbol = by_symbol(self.products, symbol_of, "BITSTAMP_PRODUCT_IDS")
        # Few attempts: a silent product is checked again soon anyway.
        self._rest = BitstampRest(settings, state_dir, stop, attempts=2)
        self._snapshots = Snapshots(self.name, lambda product: newest(self._rest, product))

    def opened(self) -> list[str]:
        return []  # no state per connection

    def subscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        return _text("bts:subscribe", channel, products[0])

    def unsubscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        return _text("bts:unsubscribe", channel, products[0])

    def read(self, frame: bytes) -> list[Said]:
        said = parse.read(frame, self._by_symbol)
        for one in said:
            if isinstance(one, Acknowledged) and one.channel == parse.TRADES and one.product_id in self.products:
                self._snapshots.fetch([one.product_id])
        return [*self._snapshots.take(), *said]

    def newest_trade(self, product_id: str) -> int:
        return newest_trade(self._rest, product_id)


def _text(event: str, channel: str, product: str) -> str:
    return json.dumps({"event": event, "data": {"channel": f"{channel}_{symbol_of(product)}"}})
