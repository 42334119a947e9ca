"""The products that a venue's settings name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pipeline.core.errors import WrongUse
from pipeline.core.products import canonical_product


def distinct(texts: Iterable[str], read: Callable[[str], str] = canonical_product) -> tuple[str, ...]:
    """The products in canonical form, each once. Raises `WrongUse`."""
    return tuple(dict.fromkeys(read(text) for text in texts))


def by_symbol(products: Iterable[str], symbol_of: Callable[[str], str], setting: str) -> dict[str, str]:
    """Symbol -> product, for a venue without a separator in its symbols. Raises `WrongUse` for two that it writes
    alike."""
    found: dict[str, str] = {}
    for product in products:
        other = found.setdefault(symbol_of(product), product)
        if other != product:
            raise WrongUse(f"{setting}: {other} and {product} are both {symbol_of(product)}; name one.")
    return found
