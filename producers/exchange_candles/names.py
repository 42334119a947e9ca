"""Names of exchanges. A venue has its ccxt name; former names and other interfaces to the same order book are aliases,
so that an exchange counts once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import ccxt

from pipeline.core.errors import WrongUse

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
# Calls per second. ccxt's figure is for signed requests; public ones are limited to 10 per second and IP address.
CALLS_PER_S = {"coinbase": 8.0}


def exchanges_of(names: Iterable[str], where: str = "--exchanges") -> tuple[str, ...]:
    """Return canonical names in the given order, without duplicates. Raises `WrongUse` for an unknown exchange."""
    made: list[str] = []
    for name in names:
        wish = name.strip().lower()
        venue = ALIASES.get(wish, wish)
        if venue not in ccxt.exchanges:
            near = difflib.get_close_matches(venue, [*ccxt.exchanges, *ALIASES], n=1)
            hint = f"did you mean {near[0]}?" if near else "see ccxt's list of exchanges."
            raise WrongUse(f"{where}: unknown exchange {name!r}; {hint}")
        if venue not in made:
            made.append(venue)
    if not made:
        raise WrongUse("--exchanges: give at least one, for example --exchanges=binance,coinbase,kraken.")
    return tuple(made)
