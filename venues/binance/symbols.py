"""Binance's spelling of products, and its list of symbols: `BTC-USDT` is `BTCUSDT`, in stream names `btcusdt`.

`exchangeInfo` (developers.binance.com, "Spot REST: Exchange information")::

    {"timezone":"UTC","serverTime":1565246363776,"symbols":[{"symbol":"BTCFDUSD","status":"TRADING","baseAsset":"BTC",
     "quoteAsset":"FDUSD",...}]}
    {"code":-1121,"msg":"Invalid symbol."}
"""

from __future__ import annotations

from pipeline.core.errors import BadData, WrongAnswer, WrongUse
from pipeline.core.products import canonical_product
from venues.events import parse_json
from venues.rest.client import Answer


def symbol_of(product_id: str) -> str:
    """`BTC-USDT` -> `BTCUSDT`."""
    return product_id.replace("-", "")


def listed_in(answer: Answer) -> dict[str, str]:
    """Parse an answer of `exchangeInfo` into symbol -> product; malformed markets are skipped. Raises `WrongAnswer`."""
    try:
        markets = list(parse_json(answer.body)["symbols"])
    except (BadData, KeyError, TypeError) as error:
        raise WrongAnswer(f"Binance's list of symbols cannot be read: {type(error).__name__}") from None
    found: dict[str, str] = {}
    for market in markets:
        try:
            found[str(market["symbol"])] = canonical_product(f"{market['baseAsset']}/{market['quoteAsset']}")
        except (WrongUse, KeyError, TypeError):
            continue
    return found
