"""OANDA's instrument names (`EUR_USD`), and their asset classes."""

from __future__ import annotations

from pipeline.core.products import AssetClass, canonical_product

_METALS = frozenset({"XAU", "XAG", "XPT", "XPD"})
_COMMODITIES = frozenset({"BCO", "WTICO", "NATGAS", "XCU", "CORN", "SOYBN", "SUGAR", "WHEAT"})
_BONDS = frozenset({"USB02Y", "USB05Y", "USB10Y", "USB30Y", "UK10YB", "DE10YB"})
_COINS = frozenset({"BTC", "ETH", "LTC", "BCH"})


def instrument_of(product_id: str) -> str:
    """`EUR-USD` -> `EUR_USD`."""
    return product_id.replace("-", "_")


def product_of(instrument: str) -> str:
    """`EUR_USD` -> `EUR-USD`. Raises `WrongUse`."""
    return canonical_product(instrument.replace("_", "-"))


def asset_class_of(product_id: str) -> AssetClass:
    """Return the asset class, by the base. Three letters in none of the lists are a currency; the rest, such as
    `SPX500` and `DE30`, are indices."""
    base = product_id.split("-")[0]
    for names, asset_class in ((_METALS, "metal"), (_COMMODITIES, "commodity"), (_BONDS, "bond"), (_COINS, "crypto")):
        if base in names:
            return asset_class  # type: ignore[return-value]
    return "forex" if len(base) == 3 and base.isalpha() else "index"
