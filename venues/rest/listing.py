"""Which products a venue lists, by symbol, so that an unlisted one is refused by name.

For venues whose symbols have no separator, so that one symbol may stand for several products, and whose streams accept
symbols that do not exist.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from venues.events import Acknowledged, SubscriptionRefused, TickerFrame, TradeFrame, VenueEvent
from venues.rest.in_background import InBackground

AGAIN_S = 600.0  # an unlisted symbol may be listed later, so it is requested again after this time
AT_ONCE = 100  # symbols per request, whose URL contains them

Ask = Callable[[list[str]], dict[str, str] | None]


class Listing:
    """The venue's listing of the products that were looked up. Thread-safe.

    `title` is the venue's display name and `symbol_of` gives its symbol for a product. `ask` requests up to `AT_ONCE`
    symbols and returns symbol -> product for those that are listed, or None if some are not and the answer does not say
    which. `background` runs the requests that a live stream makes.
    """

    def __init__(self, title: str, symbol_of: Callable[[str], str], ask: Ask, background: InBackground) -> None:
        self._title, self._symbol_of, self._ask, self._background = title, symbol_of, ask, background
        self._listed: dict[str, str | None] = {}  # symbol -> product; None: there is no such symbol
        self._absent_at: dict[str, float] = {}
        self._learning = threading.Lock()

    def listed_as(self, product_id: str) -> str | None:
        """Return the product that the symbol of `product_id` stands for; None if the symbol is not listed. Makes no
        request: a symbol that was not looked up is assumed to stand for `product_id`."""
        return self._listed.get(self._symbol_of(product_id), product_id)

    def refusal(self, product_id: str) -> str | None:
        """Return why the product is not available; None if it is, as far as is known. Makes no request."""
        symbol, listed = self._symbol_of(product_id), self.listed_as(product_id)
        if listed is None:
            return f"{self._title} lists no {symbol}"
        return None if listed == product_id else f"{self._title}'s {symbol} is {listed}; ask for {listed} instead"

    def checked(self, event: VenueEvent) -> VenueEvent:
        """Correct an event of the stream: the acknowledgement of an unlisted product becomes a refusal, and data is
        assigned to the listed product."""
        if isinstance(event, Acknowledged) and event.product_id is not None:
            reason = self.refusal(event.product_id)
            if reason is not None:
                return SubscriptionRefused(event.channel, event.product_id, reason, event.request)
            return event
        if isinstance(event, TradeFrame | TickerFrame):
            listed = self.listed_as(event.product_id)
            return event if listed in (event.product_id, None) else replace(event, product_id=listed)
        return event

    def learn(self, products: Iterable[str]) -> None:
        """Look up those of `products` that are not known yet. Raises what `ask` raises; an unlisted symbol is not an
        error."""
        with self._learning:
            now = time.monotonic()
            symbols = [self._symbol_of(product) for product in products]
            new = [one for one in symbols if one not in self._listed or now - self._absent_at.get(one, now) > AGAIN_S]
            for start in range(0, len(new), AT_ONCE):
                self._learn(new[start : start + AT_ONCE], now)

    def learn_soon(self, products: Iterable[str]) -> None:
        """Call `learn` in the background and wait for it only as long as a live stream may. Never raises."""
        wanted = tuple(products)
        self._background.run(lambda: self.learn(wanted))

    def _learn(self, symbols: list[str], now: float) -> None:
        found = self._ask(symbols)
        if found is None:  # the answer does not say which of them is not listed
            found = {}
            for symbol in symbols:
                found |= self._ask([symbol]) or {}
        for symbol in symbols:
            self._listed[symbol] = found.get(symbol)
            self._absent_at.pop(symbol, None)
            if symbol not in found:
                self._absent_at[symbol] = now
