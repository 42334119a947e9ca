"""Names of exchanges. A venue is called by its name at ccxt; who writes an old name, or another door to the same order
book, means the same venue, so that it counts once."""

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
# Calls a second. ccxt's figure is that of signed requests; public ones are limited to 10 a second and address.
CALLS_PER_S = {"coinbase": 8.0}


def exchanges_of(names: Iterable[str], where: str = "--exchanges") -> tuple[str, ...]:
    """Canonical names in the given order, each once. Raises `WrongUse` for an exchange that ccxt does not know."""
    made: list[str] = []
    for name in names:
        wish = name.strip().lower()
        venue = ALIASES.get(wish, wish)
        if venue not in ccxt.exchanges:
            near = difflib.get_close_matches(venue, [*ccxt.exchanges, *ALIASES], n=1)
            hint = f"did you mean {near[0]}?" if near else "see ccxt's list of exchanges."
            raise WrongUse(f"{where}: {name!r} is no exchange that ccxt knows; {hint}")
        if venue not in made:
            made.append(venue)
    if not made:
        raise WrongUse("--exchanges: name at least one, as --exchanges=binance,coinbase,kraken.")
    return tuple(made)
