"""Binance's side of a live connection."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from venues.binance import parse
from venues.binance.rest import BinanceRest
from venues.binance.settings import BinanceSettings
from venues.binance.symbols import symbol_of
from venues.events import Acknowledged, Said, SubscriptionRefused, TickerFrame, TradeFrame
from venues.products import by_symbol, distinct
from venues.snapshots import Snapshots

NAMESPACES = {"trade": "trades", "bookTicker": "tickers"}
# A connection takes 5 messages a second, pongs included, and 1,024 streams.
PRODUCTS_PER_TEXT = 100
# The venue's own heartbeats are pings of the protocol, which say nothing of what is behind it. This comes each second.
HEARTBEAT = "btcusdt@miniTicker"
NOBODYS = 0  # number of requests whose answer concerns no product
# What the venue does not send itself. It reaches back over a reconnect: 500 trades of BTC-USDT are some ten seconds.
SNAPSHOT_TRADES = 500


def products_of(settings: BinanceSettings) -> tuple[str, ...]:
    """The configured products, canonical, each once. Raises `WrongUse` for two that Binance writes alike."""
    products = distinct(settings.product_ids)
    by_symbol(products, symbol_of, "BINANCE_PRODUCT_IDS")
    return products


class BinanceVenue:
    """See `venues.venue.Venue`.

    An acknowledgement says nothing about whether there is such a symbol: the venue accepts any. So the listing is
    looked at before it counts. After that the newest trades are fetched by REST, as other venues send them by
    themselves: from then on a silence means something, and what a reconnect has cost is there again.
    """

    name = "binance"
    watches_trades = True
    messages_per_s = 4.0
    products_per_text = PRODUCTS_PER_TEXT

    def __init__(self, settings: BinanceSettings, state_dir: Path, stop: threading.Event) -> None:
        self.url = f"{settings.ws_url}?timeUnit=MICROSECOND"
        self.products = products_of(settings)
        self.channels: tuple[str, ...] = ("trade", "bookTicker") if settings.ticker else ("trade",)
        self.spaces = {NAMESPACES[channel]: channel for channel in self.channels}
        self.rest_per_s = settings.rest_rate
        self.frame_timeout_s = settings.ws_timeout
        self.quiet_s = settings.quiet_seconds
        self._asked = parse.Asked(by_symbol(self.products, symbol_of, "BINANCE_PRODUCT_IDS"))
        # A question about a silence is answered now or not at all; it will be asked again.
        self._rest = BinanceRest(settings, state_dir, stop, attempts=2)
        self._snapshots = Snapshots(self.name, lambda product: self._rest.newest(product, SNAPSHOT_TRADES).rows)

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
        said = [self._checked(one) for one in parse.read(frame, self._asked)]
        accepted: list[str] = []
        for one in said:
            if isinstance(one, Acknowledged | SubscriptionRefused):  # a number is answered once
                self._asked.requests.pop(one.request or NOBODYS, None)
            if isinstance(one, Acknowledged) and one.channel == "trade" and one.product_id is not None:
                accepted.append(one.product_id)
        if accepted:
            self._snapshots.fetch(accepted)
        return [*self._snapshots.take(), *said]

    def _checked(self, said: Said) -> Said:
        """An acknowledgement of what is not listed is a refusal, and data are those of the product that is."""
        if isinstance(said, Acknowledged) and said.product_id is not None:
            reason = self._rest.listing.refusal(said.product_id)
            return said if reason is None else SubscriptionRefused(said.channel, said.product_id, reason, said.request)
        if isinstance(said, TradeFrame | TickerFrame):
            listed = self._rest.listing.listed_as(said.product_id)
            return said if listed in (said.product_id, None) else replace(said, product_id=listed)
        return said

    def newest_trade(self, product_id: str) -> int:
        return self._rest.newest_trade(product_id)


def _streams(channel: str, products: Sequence[str]) -> list[str]:
    return [f"{symbol_of(product).lower()}@{channel}" for product in products]


def _text(method: str, streams: list[str], number: int) -> str:
    return json.dumps({"method": method, "params": streams, "id": number})
