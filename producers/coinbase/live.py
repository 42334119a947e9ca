"""Coinbase's side of a live connection."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import WrongUse
from pipeline.log import get_logger
from pipeline.products import canonical_product
from pipeline.settings import CoinbaseSettings
from producers.coinbase import wire
from producers.coinbase.candles import CandleBook
from producers.coinbase.rest import CoinbaseRest
from producers.coinbase.token import tokens_of
from producers.frames import CandleFrame, FramesLost, Said, VenueNotice

NAMESPACES = {"market_trades": "trades", "ticker": "tickers", "candles": "candles"}


def products_of(settings: CoinbaseSettings) -> tuple[str, ...]:
    """The configured products, canonical (which is how Coinbase writes them), each once."""
    return tuple(dict.fromkeys(canonical_product(text) for text in settings.product_ids))


class CoinbaseVenue:
    """See `producers.connection.Venue`."""

    name = "coinbase"
    messages_per_s = 4.0  # 8 a second and address without a key

    def __init__(self, settings: CoinbaseSettings, state_dir: Path, stop: threading.Event) -> None:
        self.url = settings.ws_url
        self.products = products_of(settings)
        wanted = tuple(dict.fromkeys(channel for channel in settings.channels if channel != "heartbeats"))
        for channel in wanted:
            if channel not in NAMESPACES:
                raise WrongUse(f"COINBASE_CHANNELS: {channel!r} is not handled; choose from {', '.join(NAMESPACES)}.")
        self.channels = wanted
        self.namespaces = tuple(NAMESPACES[channel] for channel in wanted)
        self.watches_trades = "market_trades" in wanted
        self.frame_timeout_s = settings.ws_timeout
        self.quiet_s = settings.quiet_seconds
        self._tokens = tokens_of(settings.api_key, settings.api_secret)
        self._candles = CandleBook()
        self._next_sequence: int | None = None
        # A question about a silence is answered now or not at all; it will be asked again.
        self._rest = CoinbaseRest(settings, state_dir, stop, attempts=2)

    def opened(self) -> None:
        self._next_sequence = None
        self._candles.forget()

    def subscribe(self, products: Iterable[str]) -> list[str]:
        wanted = list(products)
        # Without heartbeats the venue closes the channels of quiet products after a minute.
        return [
            self._request("subscribe", "heartbeats", None),
            *(self._request("subscribe", channel, wanted) for channel in self.channels),
        ]

    def unsubscribe(self, products: Iterable[str]) -> list[str]:
        wanted = list(products)
        return [self._request("unsubscribe", channel, wanted) for channel in self.channels]

    def _request(self, kind: str, channel: str, products: list[str] | None) -> str:
        message: dict[str, object] = {"type": kind, "channel": channel}
        if products is not None:
            message["product_ids"] = products
        if self._tokens is not None:
            message["jwt"] = self._tokens.new()
        return json.dumps(message)

    def read(self, frame: bytes) -> list[Said]:
        read = wire.read(frame)
        said: list[Said] = []
        if read.sequence is not None:
            if self._next_sequence is not None and read.sequence > self._next_sequence:
                said.append(FramesLost(read.sequence - self._next_sequence))
            self._next_sequence = max(read.sequence + 1, self._next_sequence or 0)
        for one in read.said:
            if isinstance(one, CandleFrame):
                taken = self._candles.take(one)
                said += [taken] if taken else []
            else:
                if isinstance(one, VenueNotice) and one.kind == "error" and self._tokens and "auth" in one.text:
                    one = self._without_key(one)
                said.append(one)
        if read.at_us is not None:
            said += self._candles.settled(read.at_us)
        return said

    def _without_key(self, notice: VenueNotice) -> VenueNotice:
        self._tokens = None
        text = f"COINBASE_API_KEY and its secret are refused ({notice.text}); correct or remove them; going on without"
        get_logger().error("venue.key_refused", venue=self.name, text=text)
        return VenueNotice("key_refused", text)

    def newest_trade(self, product_id: str) -> int:
        return self._rest.newest_trade(product_id)
