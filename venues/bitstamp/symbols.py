"""Product ids as Bitstamp spells them: `BTC-USD` is `btcusd`, without a separator."""

from __future__ import annotations


def symbol_of(product_id: str) -> str:
    """`BTC-USD` -> `btcusd`."""
    return product_id.replace("-", "").lower()
