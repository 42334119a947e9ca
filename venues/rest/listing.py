"""Which products a venue lists, by their symbols: one that it does not have is refused by name.

For venues whose symbols have no separator, so that one symbol can be read as two products, and whose streams accept
symbols that do not exist.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from venues.events import Acknowledged, Said, SubscriptionRefused, TickerFrame, TradeFrame
from venues.rest.in_background import InBackground

AGAIN_S = 600.0  # what is not listed may be, some day
AT_ONCE = 100  # symbols in one request, which are part of its address

Ask = Callable[[list[str]], dict[str, str] | None]


class Listing:
    """What the venue lists of the products that somebody asked for. Threads may share one.

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
        """Return the product that this one's symbol stands for, None if there is none. Makes no request; an unknown
        symbol is taken for the product itself."""
        return self._listed.get(self._symbol_of(product_id), product_id)

    def refusal(self, product_id: str) -> str | None:
        """Return why the product cannot be had; None if it can, as far as is known. Makes no request."""
        symbol, listed = self._symbol_of(product_id), self.listed_as(product_id)
        if listed is None:
            return f"{self._title} lists no {symbol}"
        return None if listed == product_id else f"{self._title}'s {symbol} is {listed}; ask for {listed} instead"

    def checked(self, said: Said) -> Said:
        """Return an event of the stream as the listing corrects it: an acknowledgement of what is not listed is a
        refusal, and data belong to the product that is listed."""
        if isinstance(said, Acknowledged) and said.product_id is not None:
            reason = self.refusal(said.product_id)
            return said if reason is None else SubscriptionRefused(said.channel, said.product_id, reason, said.request)
        if isinstance(said, TradeFrame | TickerFrame):
            listed = self.listed_as(said.product_id)
            return said if listed in (said.product_id, None) else replace(said, product_id=listed)
        return said

    def learn(self, products: Iterable[str]) -> None:
        """Request those of `products` that are not known. Raises what `ask` does, but not for a symbol that is not
        listed."""
        with self._learning:
            now = time.monotonic()
            symbols = [self._symbol_of(product) for product in products]
            new = [one for one in symbols if one not in self._listed or now - self._absent_at.get(one, now) > AGAIN_S]
            for start in range(0, len(new), AT_ONCE):
                self._learn(new[start : start + AT_ONCE], now)

    def learn_soon(self, products: Iterable[str]) -> None:
        """Call `learn` in the background, waiting for it only as long as a live stream may. Never raises."""
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
