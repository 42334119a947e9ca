"""The products that a venue's settings name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pipeline.core.errors import WrongUse
from pipeline.core.products import canonical_product
from pipeline.core.settings import VenueSettings


def distinct(texts: Iterable[str], read: Callable[[str], str] = canonical_product) -> tuple[str, ...]:
    """Return the products in canonical form, without duplicates. Raises `WrongUse`."""
    return tuple(dict.fromkeys(read(text) for text in texts))


def configured(settings: VenueSettings) -> tuple[str, ...]:
    """Return the products of `<VENUE>_PRODUCT_IDS`: canonical ids without duplicates. Raises `WrongUse`."""
    return distinct(settings.product_ids)


def by_symbol(settings: VenueSettings, symbol_of: Callable[[str], str]) -> dict[str, str]:
    """Return symbol -> product of `<VENUE>_PRODUCT_IDS`, for a venue whose symbols have no separator. Raises `WrongUse`
    for two products with one symbol."""
    found: dict[str, str] = {}
    for product in configured(settings):
        symbol = symbol_of(product)
        other = found.setdefault(symbol, product)
        if other != product:
            setting = f"{settings.model_config['env_prefix']}PRODUCT_IDS"
            raise WrongUse(f"{setting}: {other} and {product} are both {symbol}; name one.")
    return found
