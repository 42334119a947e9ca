"""The OANDA pricing stream: one request that names every instrument, and a new one for each change."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from pipeline.core.errors import Refused
from venues.events import Acknowledged, Resubscribe, Said, SubscriptionRefused, TickerFrame, VenueNotice
from venues.oanda import parse
from venues.oanda.settings import OandaSettings, authorization
from venues.oanda.symbols import instrument_of
from venues.products import configured

CHANNEL = "pricing"


@dataclass(frozen=True)
class _Request:
    """`products` are asked for, beside those that run; `wanted` are all of them."""

    number: int
    products: tuple[str, ...]
    wanted: tuple[str, ...]


class OandaVenue:
    """Implements `venues.venue.Venue`.

    A request with an instrument that does not exist is refused as a whole, without a name. Each is then asked for
    alone, beside those that were granted, and the stream before goes on where one is refused.
    """

    name = "oanda"
    watches_trades = False
    messages_per_s = 1.0
    products_per_text = 1000
    quiet_s = 60.0
    channels: tuple[str, ...] = (CHANNEL,)

    def __init__(self, settings: OandaSettings, state_dir: Path, stop: threading.Event) -> None:
        self._headers = authorization(settings)
        self.url = settings.stream_url
        self.products = configured(settings)
        self.spaces = {"tickers": CHANNEL}
        self.rest_per_s = settings.rest_rate
        self.frame_timeout_s = settings.stream_timeout
        self._account = settings.account
        self._running: tuple[str, ...] = ()
        self._asked: deque[_Request] = deque()
        self._first: set[str] = set()  # of which the price in force at the beginning has not come yet

    def opened(self) -> list[str]:
        self._running, self._first = (), set()
        self._asked.clear()
        return []

    def subscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        return self._request(request, tuple(products), (*self._running, *products))

    def unsubscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        return self._request(request, (), tuple(one for one in self._running if one not in products))

    def _request(self, number: int, products: tuple[str, ...], wanted: tuple[str, ...]) -> str:
        wanted = tuple(dict.fromkeys(wanted))
        self._asked.append(_Request(number, products, wanted))
        names = quote(",".join(instrument_of(product) for product in wanted))
        return json.dumps(
            {
                "target": f"/v3/accounts/{self._account}/pricing/stream?instruments={names}",
                "headers": self._headers,
            }
        )

    def read(self, frame: bytes) -> list[Said]:
        said = parse.read(frame)
        if isinstance(said, parse.Status):
            return self._answered(said)
        return [self._marked(one) if isinstance(one, TickerFrame) else one for one in said]

    def _marked(self, said: TickerFrame) -> TickerFrame:
        """The first price after a request is the one in force, whose time may be long ago: at weekends two days."""
        if said.product_id not in self._first:
            return said
        self._first.discard(said.product_id)
        return replace(said, snapshot=True)

    def _answered(self, status: parse.Status) -> list[Said]:
        if not self._asked:
            return [VenueNotice("error", f"an answer that nobody asked for: {status.reason or 'granted'}")]
        request = self._asked.popleft()
        if status.granted:
            # Granted meanwhile, and not part of this request, which was made before.
            lost = [one for one in self._running if one not in request.wanted and request.products]
            self._running, self._first = request.wanted, set(request.wanted)
            said: list[Said] = [Acknowledged(CHANNEL, product, request.number) for product in request.products]
            return said + [Resubscribe(CHANNEL, product, "it was left out of a later request") for product in lost]
        if not request.products:
            return [VenueNotice("error", status.reason)]
        product = request.products[0] if len(request.products) == 1 else None
        return [SubscriptionRefused(CHANNEL, product, status.reason, request.number)]

    def newest_trade(self, product_id: str) -> int:
        raise Refused("OANDA has no trades")
