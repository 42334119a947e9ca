"""The OANDA pricing stream: one HTTP request names all instruments; each change of them is a new request."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from pipeline.core.errors import Refused
from venues.events import Acknowledged, Resubscribe, SubscriptionRefused, TickerFrame, VenueEvent, VenueNotice
from venues.oanda import parse
from venues.oanda.settings import OandaSettings, authorization
from venues.oanda.symbols import instrument_of
from venues.products import configured

CHANNEL = "pricing"


@dataclass(frozen=True)
class _Request:
    """A request that is not answered yet."""

    number: int
    products: tuple[str, ...]  # those that it adds
    wanted: tuple[str, ...]  # all that it names


class OandaVenue:
    """Implements `venues.venue.Venue`.

    A request that names an unknown instrument is refused as a whole, without saying which. Each product is then
    requested alone, together with those that run; where it is refused, the previous stream continues.
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
        self._first: set[str] = set()  # products whose initial price has not arrived yet

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

    def read(self, frame: bytes) -> list[VenueEvent]:
        parsed = parse.read(frame)
        if isinstance(parsed, parse.Status):
            return self._answer(parsed)
        return [self._with_snapshot(one) if isinstance(one, TickerFrame) else one for one in parsed]

    def _with_snapshot(self, ticker: TickerFrame) -> TickerFrame:
        """Mark the first price after a request as a snapshot: it is the one in force, and on weekends two days old."""
        if ticker.product_id not in self._first:
            return ticker
        self._first.discard(ticker.product_id)
        return replace(ticker, snapshot=True)

    def _answer(self, status: parse.Status) -> list[VenueEvent]:
        if not self._asked:
            return [VenueNotice("error", f"an answer without a request: {status.reason or 'granted'}")]
        request = self._asked.popleft()
        if status.granted:
            # Granted since this request was made, and not part of it.
            lost = [one for one in self._running if one not in request.wanted and request.products]
            self._running, self._first = request.wanted, set(request.wanted)
            events: list[VenueEvent] = [Acknowledged(CHANNEL, product, request.number) for product in request.products]
            return events + [Resubscribe(CHANNEL, product, "it was left out of a later request") for product in lost]
        if not request.products:
            return [VenueNotice("error", status.reason)]
        product = request.products[0] if len(request.products) == 1 else None
        return [SubscriptionRefused(CHANNEL, product, status.reason, request.number)]

    def newest_trade(self, product_id: str) -> int:
        raise Refused("OANDA has no trades")
