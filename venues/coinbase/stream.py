"""The Coinbase stream: subscribe messages, sequence numbers, candles."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import WrongUse
from pipeline.core.log import get_logger
from venues.coinbase import parse
from venues.coinbase.rest import CoinbaseRest
from venues.coinbase.settings import CoinbaseSettings
from venues.coinbase.token import tokens_of
from venues.events import CandleFrame, VenueEvent, VenueNotice
from venues.frame_count import FrameCount
from venues.products import configured
from venues.timed_candles import TimedCandles
from venues.websocket_venue import WebSocketVenue

NAMESPACES = {"market_trades": "trades", "ticker": "tickers", "candles": "candles"}


class CoinbaseVenue(WebSocketVenue[CoinbaseRest]):
    """Implements `venues.venue.Venue`."""

    name = "coinbase"
    messages_per_s = 4.0  # Coinbase allows 8 per second and IP address without a key
    products_per_text = 50

    def __init__(self, settings: CoinbaseSettings, state_dir: Path, stop: threading.Event) -> None:
        wanted = sorted(
            dict.fromkeys(channel for channel in settings.channels if channel != "heartbeats"),
            key=lambda channel: channel != "market_trades",
        )
        for channel in wanted:
            if channel not in NAMESPACES:
                raise WrongUse(f"COINBASE_CHANNELS: unknown channel {channel!r}; choose from {', '.join(NAMESPACES)}.")
        spaces = {NAMESPACES[channel]: channel for channel in wanted}
        super().__init__(settings, configured(settings), spaces, CoinbaseRest(settings, state_dir, stop, attempts=2))
        self.watches_trades = "market_trades" in wanted
        self._tokens = tokens_of(settings.api_key, settings.api_secret)
        self._candles = TimedCandles(parse.CANDLE_S)
        self._frames = FrameCount()

    def opened(self) -> list[str]:
        self._frames.forget()
        self._candles.forget()
        # Without heartbeats the venue closes the channels of quiet products after a minute.
        return [self._request("subscribe", "heartbeats", None)]

    def subscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        return self._request("subscribe", channel, list(products))

    def unsubscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        return self._request("unsubscribe", channel, list(products))

    def _request(self, kind: str, channel: str, products: list[str] | None) -> str:
        message: dict[str, object] = {"type": kind, "channel": channel}
        if products is not None:
            message["product_ids"] = products
        if self._tokens is not None:
            message["jwt"] = self._tokens.new()
        return json.dumps(message)

    def read(self, frame: bytes) -> list[VenueEvent]:
        read = parse.read(frame)
        events: list[VenueEvent] = [] if read.sequence is None else [*self._frames.lost(read.sequence)]
        candles: list[CandleFrame] = []
        for one in read.events:
            if isinstance(one, CandleFrame) and one.product_id in self.products:
                candles.append(one)
                continue
            if isinstance(one, VenueNotice) and one.kind == "error" and self._tokens and "auth" in one.text:
                one = self._without_key(one)
            events.append(one)
        return events + self._candles.read(candles, read.at_us)

    def _without_key(self, notice: VenueNotice) -> VenueNotice:
        self._tokens = None
        text = f"COINBASE_API_KEY was refused ({notice.text}); correct or remove it and its secret; continuing without"
        get_logger().error("venue.key_refused", venue=self.name, text=text)
        return VenueNotice("key_refused", text)
