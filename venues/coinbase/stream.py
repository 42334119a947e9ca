"""The Coinbase stream: subscribe messages, sequence numbers, candles."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from pipeline.core.errors import BadData, WrongUse
from pipeline.core.log import get_logger
from pipeline.core.runtime import now_us
from venues.coinbase import parse
from venues.coinbase.rest import CoinbaseRest
from venues.coinbase.settings import CoinbaseSettings
from venues.coinbase.token import tokens_of
from venues.events import BadElements, CandleFrame, Said, VenueNotice
from venues.frame_count import FrameCount
from venues.products import configured
from venues.running_candles import CandleBook
from venues.venue_clock import VenueClock
from venues.websocket_venue import WebSocketVenue

# A frame's time, and the start of a candle, may be this far ahead of what the frames before say the venue's time is.
AHEAD_US = 5_000_000
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
        self._candles = CandleBook(parse.CANDLE_S)
        self._clock = VenueClock()
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

    def read(self, frame: bytes) -> list[Said]:
        read = parse.read(frame)
        said: list[Said] = [] if read.sequence is None else [*self._frames.lost(read.sequence)]
        latest_us = self._latest_us(read.at_us)
        believed = read.at_us is not None and latest_us is not None and read.at_us <= latest_us
        for one in read.said:
            if isinstance(one, CandleFrame) and one.product_id in self.products:
                said += self._candles_of(one, latest_us, believed)
                continue
            if isinstance(one, VenueNotice) and one.kind == "error" and self._tokens and "auth" in one.text:
                one = self._without_key(one)
            said.append(one)
        if believed and read.at_us is not None:
            said += self._candles.settled(read.at_us)
        return said

    def _latest_us(self, at_us: int | None) -> int | None:
        """Return the latest believable time for a frame with this time; None in the first seconds.

        A frame with a wrong time would finalize running candles and outrank every later correction of them. It is
        compared with the frames of other seconds, and not with our clock, which may itself be wrong.
        """
        received_us = time.monotonic_ns() // 1000
        offset_us = self._clock.offset_us
        if at_us is not None:
            self._clock.seen(at_us, received_us)
        return None if offset_us is None else received_us + offset_us + AHEAD_US

    def _candles_of(self, frame: CandleFrame, latest_us: int | None, believed: bool) -> list[Said]:
        ours_us = now_us() + AHEAD_US
        as_of_us = frame.as_of_us
        if as_of_us is not None and not believed:
            as_of_us = min(as_of_us, ours_us)
        # All candles before one that has not begun would be final.
        begun_us = max(frame.as_of_us or 0, ours_us) if latest_us is None else max(as_of_us or 0, latest_us)
        bad = BadElements()
        for row in frame.rows:
            if row.bucket_us > begun_us:
                bad.add(BadData("time", f"a candle of {frame.product_id} has not begun"), structs.asdict(row))
        rows = [row for row in frame.rows if row.bucket_us <= begun_us]
        taken = self._candles.take(replace(frame, as_of_us=as_of_us, rows=rows)) if rows else None
        return [*bad.all(), *([taken] if taken else [])]

    def _without_key(self, notice: VenueNotice) -> VenueNotice:
        self._tokens = None
        text = f"COINBASE_API_KEY was refused ({notice.text}); correct or remove it and its secret; continuing without"
        get_logger().error("venue.key_refused", venue=self.name, text=text)
        return VenueNotice("key_refused", text)
