"""Kraken's side of a live connection."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path

from pipeline.settings import KrakenSettings
from producers.frames import Said
from producers.kraken import wire
from producers.kraken.names import product_of
from producers.kraken.rest import KrakenRest

SYMBOLS_PER_REQUEST = 50


def products_of(settings: KrakenSettings) -> tuple[str, ...]:
    """The configured products, canonical, each once."""
    return tuple(dict.fromkeys(product_of(text) for text in settings.product_ids))


class KrakenVenue:
    """See `producers.connection.Venue`."""

    name = "kraken"
    watches_trades = True
    messages_per_s = 10.0  # the limit is not published; others use 20

    def __init__(self, settings: KrakenSettings, state_dir: Path, stop: threading.Event) -> None:
        self.url = settings.ws_url
        self.products = products_of(settings)
        self.channels: tuple[str, ...] = ("trade", "ticker") if settings.ticker else ("trade",)
        self.namespaces: tuple[str, ...] = ("trades", "tickers") if settings.ticker else ("trades",)
        self.frame_timeout_s = settings.ws_timeout
        self.quiet_s = settings.quiet_seconds
        # A question about a silence is answered now or not at all; it will be asked again.
        self._rest = KrakenRest(settings, state_dir, stop, attempts=2)

    def opened(self) -> None:
        """Nothing belongs to one connection here."""

    def subscribe(self, products: Iterable[str]) -> list[str]:
        return self._requests("subscribe", products)

    def unsubscribe(self, products: Iterable[str]) -> list[str]:
        return self._requests("unsubscribe", products)

    def _requests(self, method: str, products: Iterable[str]) -> list[str]:
        wanted = list(products)
        self._rest.spelling.learn_soon(wanted)
        symbols = [self._rest.spelling.of(product).symbol for product in wanted]
        texts = []
        for start in range(0, len(symbols), SYMBOLS_PER_REQUEST):
            for channel in self.channels:
                params: dict[str, object] = {"channel": channel, "symbol": symbols[start : start + SYMBOLS_PER_REQUEST]}
                if channel == "ticker":
                    params["event_trigger"] = "bbo"  # each move of bid and ask, not only with trades
                if method == "subscribe":
                    params["snapshot"] = True
                texts.append(json.dumps({"method": method, "params": params}))
        return texts

    def read(self, frame: bytes) -> list[Said]:
        return wire.read(frame)

    def newest_trade(self, product_id: str) -> int:
        return self._rest.newest_trade(product_id)
