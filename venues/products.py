"""The products that a venue's settings name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pipeline.core.errors import WrongUse
from pipeline.core.products import canonical_product
from pipeline.core.settings import VenueSettings


def distinct(texts: Iterable[str], read: Callable[[str], str] = canonical_product) -> tuple[str, ...]:
    """The products in canonical form, each once. Raises `WrongUse`."""
    return tuple(dict.fromkeys(read(text) for text in texts))


def configured(settings: VenueSettings) -> tuple[str, ...]:
    """The products of `<VENUE>_PRODUCT_IDS`: canonical, each once. Raises `WrongUse`."""
    return distinct(settings.product_ids)


def by_symbol(settings: VenueSettings, symbol_of: Callable[[str], str]) -> dict[str, str]:
    """Symbol -> product of `<VENUE>_PRODUCT_IDS`, for a venue without a separator in its symbols. Raises `WrongUse` for
    two that it writes alike."""
    found: dict[str, str] = {}
    for product in configured(settings):
        symbol = symbol_of(product)
        other = found.setdefault(symbol, product)
        if other != product:
            setting = f"{settings.model_config['env_prefix']}PRODUCT_IDS"
            raise WrongUse(f"{setting}: {other} and {product} are both {symbol}; name one.")
    return found
