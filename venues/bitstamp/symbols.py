"""Product ids as Bitstamp spells them: `BTC-USD` is `btcusd`, without a separator."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.core.errors import WrongUse
from pipeline.core.products import canonical_product


def symbol_of(product_id: str) -> str:
    """`BTC-USD` -> `btcusd`."""
    return product_id.replace("-", "").lower()


def by_symbol(products: Iterable[str]) -> dict[str, str]:
    """Symbol -> product. Raises `WrongUse` for two products that Bitstamp spells alike."""
    found: dict[str, str] = {}
    for product in products:
        other = found.setdefault(symbol_of(product), product)
        if other != product:
            raise WrongUse(f"BITSTAMP_PRODUCT_IDS: {other} and {product} are both {symbol_of(product)}; name one.")
    return found


def canonical(texts: Iterable[str]) -> tuple[str, ...]:
    """The products in canonical form without duplicates. Raises `WrongUse`."""
    products = tuple(dict.fromkeys(canonical_product(text) for text in texts))
    by_symbol(products)
    return products
