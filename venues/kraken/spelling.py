"""How Kraken spells a pair: `AAPLx/USD` on the WebSocket and `AAPLxUSD` at REST are our `AAPLX-USD`.

Kraken's symbols are case-sensitive, and REST needs the asset class of a pair that is not a currency. Both are in its
list of pairs (`AssetPairs`), which is requested when a product is not in the copy on disk. If the request fails, the
usual spelling is used: capitals.

    {"error":[],"result":{"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD","aclass_base":"currency",...},...}}
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.errors import WrongAnswer, WrongUse
from pipeline.core.products import canonical_product
from venues.kraken.parse import rest_result
from venues.kraken.symbols import ALIASES, OLD, rest_pair, websocket_symbol
from venues.rest.client import Answer
from venues.rest.shared_list import MOST_ENTRIES, SharedList
from venues.rest.venue_rest import VenueRest

# Tokenized stocks are listed only in answers to requests for this class. A name in both classes means the currency.
CLASSES = ("currency", "tokenized_asset")
_ALTNAME = re.compile(r"[A-Za-z0-9./_-]{1,40}", re.ASCII)
_LETTERS = ("", "X", "Z")


class Spelled(NamedTuple):
    """One pair in Kraken's spelling."""

    symbol: str  # of WebSocket v2
    pair: str  # of REST
    asset_class: str = CLASSES[0]
    listed: str = ""  # its key in the list of pairs, under which REST answers

    def params(self) -> dict[str, str]:
        """Return the REST parameters that name the pair."""
        return {"pair": self.pair} | ({} if self.asset_class == CLASSES[0] else {"asset_class": self.asset_class})

    def names(self) -> set[str]:
        """Return what REST may call the pair in an answer. Guessed if the list is not known: Kraken's older currencies
        are prefixed by X or Z, so `XXBTZUSD`, `ZEURZUSD`, `USDTZUSD` are XBT/USD, EUR/USD, USDT/USD."""
        if self.listed:
            return {self.pair, self.listed}
        base, quote = (OLD.get(part, part) for part in self.symbol.split("/"))
        return {self.pair, *(a + base + b + quote for a in _LETTERS for b in _LETTERS)}


def usual(product_id: str) -> Spelled:
    """Return the usual spelling, right for most pairs."""
    return Spelled(websocket_symbol(product_id), rest_pair(product_id))


class Spelling(SharedList[Spelled]):
    """Looks up spellings. Thread-safe. Never raises: without the list most pairs are still spelled right."""

    def __init__(self, rest: VenueRest, state_dir: Path) -> None:
        def lists() -> Iterator[dict[str, Spelled]]:
            for asset_class in CLASSES:
                yield rest.get("AssetPairs", {"aclass_base": asset_class}, pairs_of(asset_class), may_be_old=True)

        super().__init__("kraken", "AssetPairs", state_dir / "kraken-pairs.json", lists, Spelled)

    def of(self, product_id: str) -> Spelled:
        """Return the known spelling, else the usual one. Makes no request."""
        return self.entry(product_id) or usual(product_id)


def pairs_of(asset_class: str) -> Any:
    """Return a parser of `AssetPairs` answers for `asset_class`: product -> spelling. Malformed pairs are skipped."""

    def read(answer: Answer) -> dict[str, Spelled]:
        try:
            pairs = list(rest_result(answer.body).items())[:MOST_ENTRIES]
        except AttributeError:
            raise WrongAnswer("Kraken's list of pairs is not a list of pairs") from None
        found: dict[str, Spelled] = {}
        for key, pair in pairs:
            try:
                if pair.get("aclass_base", asset_class) != asset_class or not _ALTNAME.fullmatch(pair["altname"]):
                    continue
                product = canonical_product(pair["wsname"], ALIASES)
                symbol = "/".join(ALIASES.get(part, part) for part in pair["wsname"].split("/"))
                found.setdefault(product, Spelled(symbol, pair["altname"], asset_class, key))
            except (WrongUse, KeyError, TypeError, ValueError, AttributeError):
                continue
        return found

    return read
