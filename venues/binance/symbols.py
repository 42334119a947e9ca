"""How Binance writes a product, and whether it has it: `BTC-USDT` is `BTCUSDT`, in streams `btcusdt`.

A symbol has no separator, so that it can be read in two ways, and the stream acknowledges symbols that do not exist.
`exchangeInfo` decides (developers.binance.com, "Spot REST: Exchange information")::

    {"timezone":"UTC","serverTime":1565246363776,"symbols":[{"symbol":"BTCFDUSD","status":"TRADING","baseAsset":"BTC",
     "quoteAsset":"FDUSD",...}]}
    {"code":-1121,"msg":"Invalid symbol."}
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable

from pipeline.core.errors import BadData, Refused, WrongAnswer, WrongUse
from pipeline.core.products import canonical_product
from venues.events import parse_json
from venues.rest.client import Answer, Client
from venues.rest.in_background import InBackground
from venues.rest.rate_limit import RateLimit

INVALID_SYMBOL = "-1121"
AGAIN_S = 600.0  # what is not listed may be, some day
AT_ONCE = 100  # they stand in the address


def symbol_of(product_id: str) -> str:
    """`BTC-USDT` -> `BTCUSDT`."""
    return product_id.replace("-", "")


class Listing:
    """What Binance lists of the products that somebody asked for. Threads may share one."""

    def __init__(self, client: Client, limit: RateLimit) -> None:
        self._client, self._limit = client, limit
        self._listed: dict[str, str | None] = {}  # symbol -> product; None: there is no such symbol
        self._absent_at: dict[str, float] = {}
        self._learning = threading.Lock()
        self._background = InBackground("binance", "exchangeInfo")

    def listed_as(self, product_id: str) -> str | None:
        """The product that the symbol of this one stands for; None where there is none. As far as is known: asks
        nobody."""
        return self._listed.get(symbol_of(product_id), product_id)

    def refusal(self, product_id: str) -> str | None:
        """Why the product cannot be had, as far as is known."""
        symbol, listed = symbol_of(product_id), self.listed_as(product_id)
        if listed is None:
            return f"Binance lists no {symbol}"
        return None if listed == product_id else f"Binance's {symbol} is {listed}; ask for {listed} instead"

    def learn(self, products: Iterable[str]) -> None:
        """Ask about those of `products` that are not known. Raises what `Client.get` does, but not for a symbol that
        is not listed."""
        with self._learning:
            now = time.monotonic()
            symbols = [symbol_of(product) for product in products]
            new = [one for one in symbols if one not in self._listed or now - self._absent_at.get(one, now) > AGAIN_S]
            for start in range(0, len(new), AT_ONCE):
                self._learn(new[start : start + AT_ONCE], now)

    def _learn(self, symbols: list[str], now: float) -> None:
        found = self._ask(symbols)
        if found is None:  # the answer does not say which of them there is not
            found = {}
            for symbol in symbols:
                found |= self._ask([symbol]) or {}
        for symbol in symbols:
            self._listed[symbol] = found.get(symbol)
            self._absent_at.pop(symbol, None)
            if symbol not in found:
                self._absent_at[symbol] = now

    def learn_soon(self, products: Iterable[str]) -> None:
        """The same in the background, waited for as long as a live stream may wait for REST. Never raises."""
        wanted = tuple(products)
        self._background.run(lambda: self.learn(wanted))

    def _ask(self, symbols: list[str]) -> dict[str, str] | None:
        """The listed ones with their products; None where one of them is not listed."""
        params = {"symbols": json.dumps(symbols, separators=(",", ":")), "showPermissionSets": "false"}
        try:
            return self._client.get("exchangeInfo", params, self._limit, listed_in)
        except Refused as error:
            if INVALID_SYMBOL in str(error):
                return None
            raise


def listed_in(answer: Answer) -> dict[str, str]:
    """Symbol -> product of an answer of `exchangeInfo`. Raises `WrongAnswer`; one odd market costs itself."""
    try:
        markets = list(parse_json(answer.body)["symbols"])
    except (BadData, KeyError, TypeError) as error:
        raise WrongAnswer(f"Binance's list of symbols cannot be read: {type(error).__name__}") from None
    found: dict[str, str] = {}
    for market in markets:
        try:
            found[str(market["symbol"])] = canonical_product(f"{market['baseAsset']}/{market['quoteAsset']}")
        except (WrongUse, KeyError, TypeError):
            continue
    return found
