"""Product ids in one canonical form, and the venues and asset classes there are."""

from __future__ import annotations

import re
from typing import Literal, get_args

from pipeline.errors import WrongUse

AssetClass = Literal["crypto", "forex", "metal", "commodity", "index", "stock", "bond"]
Origin = Literal["live", "snapshot", "history", "repair"]
TakerSide = Literal["buy", "sell", "unknown"]
ORIGINS: tuple[str, ...] = get_args(Origin)
TAKER_SIDES: tuple[str, ...] = get_args(TakerSide)

_CANONICAL = re.compile(r"[A-Z0-9]{1,20}-[A-Z0-9]{2,10}")
_QUOTES = ("USDT", "USDC", "USD", "EUR", "GBP", "JPY", "CHF", "CAD", "AUD", "NZD", "BTC", "ETH")


def canonical_product(text: str) -> str:
    """`BTC/USD`, `btc-usd`, `BTCUSD`, `BRENT.CMD/USD` -> `BTC-USD`, `BRENTCMD-USD`.

    Without a separator the quote currency is recognised by its code, else it is the last three letters.
    Raises `WrongUse` for what cannot be a product.
    """
    name = text.strip().upper().replace("/", "-").replace(".", "")
    if "-" not in name:
        quote = next((q for q in _QUOTES if name.endswith(q) and len(name) > len(q) + 1), name[-3:])
        name = f"{name[: -len(quote)]}-{quote}"
    if not _CANONICAL.fullmatch(name):
        raise WrongUse(f"{text!r} is no product; write it like BTC/USD or EURUSD.")
    return name
