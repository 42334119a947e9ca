"""Names of exchanges: those of ccxt, and of venues that have candles in their own folder. Former names and other
interfaces to the same order book are aliases, so that an exchange counts once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import ccxt

from pipeline.core.errors import WrongUse
from venues.registry import adapters

ALIASES = {
    "coinbasepro": "coinbase",
    "coinbaseexchange": "coinbase",
    "coinbaseadvanced": "coinbase",
    "gdax": "coinbase",
    "huobi": "htx",
    "huobipro": "htx",
    "okex": "okx",
    "okex5": "okx",
    "gateio": "gate",
    "bitmax": "ascendex",
    "hitbtc2": "hitbtc",
    "hitbtc3": "hitbtc",
    "crypto.com": "cryptocom",
}


def with_own_candles() -> frozenset[str]:
    """Return the venues whose candles are requested by their own adapter, because ccxt does not support them."""
    return frozenset(name for name, adapter in adapters().items() if adapter.candles is not None)


def exchanges_of(names: Iterable[str], where: str = "--exchanges") -> tuple[str, ...]:
    """Return canonical names in the given order, without duplicates. Raises `WrongUse` for an unknown exchange."""
    made: list[str] = []
    for name in names:
        wish = name.strip().lower()
        venue = ALIASES.get(wish, wish)
        known = [*ccxt.exchanges, *with_own_candles()]
        if venue not in known:
            near = difflib.get_close_matches(venue, [*known, *ALIASES], n=1)
            hint = f"did you mean {near[0]}?" if near else "see ccxt's list of exchanges."
            raise WrongUse(f"{where}: unknown exchange {name!r}; {hint}")
        if venue not in made:
            made.append(venue)
    if not made:
        raise WrongUse("--exchanges: give at least one, for example --exchanges=binance,coinbase,kraken.")
    return tuple(made)
