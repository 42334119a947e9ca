"""Kraken's usual spellings: WebSocket v2 `BTC/USD`, REST `XBTUSD`; canonical `BTC-USD`."""

from __future__ import annotations

from functools import lru_cache

from pipeline.core.products import canonical_product

OLD = {"BTC": "XBT", "DOGE": "XDG"}
ALIASES = {old: new for new, old in OLD.items()}  # XDG is another coin elsewhere


@lru_cache(4096)  # bounded, because the venue chooses the keys; a refused text, such as a long one, is not kept
def product_of(symbol: str) -> str:
    """`BTC/USD`, `XBT/USD`, `BTC-USD` -> `BTC-USD`. Raises `WrongUse`."""
    return canonical_product(symbol, ALIASES)


def websocket_symbol(product_id: str) -> str:
    """`BTC-USD` -> `BTC/USD`."""
    return product_id.replace("-", "/")


def rest_pair(product_id: str) -> str:
    """`BTC-USD` -> `XBTUSD`."""
    base, quote = product_id.split("-")
    return OLD.get(base, base) + OLD.get(quote, quote)
