"""How Kraken spells a pair: `AAPLx/USD` on the WebSocket and `AAPLxUSD` at REST are our `AAPLX-USD`.

Kraken's symbols are case-sensitive, and REST needs the asset class of a pair that is not a currency. Both are in its
list of pairs (`AssetPairs`), which is requested when a product is not in the copy on disk; all processes of the machine
share that copy. If the request fails, the usual spelling is used: capitals.

    {"error":[],"result":{"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD","aclass_base":"currency",...},...}}
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import events
from pipeline.core.errors import PipelineError, WrongAnswer, WrongUse
from pipeline.core.log import get_logger
from pipeline.core.products import canonical_product
from pipeline.core.stopping import Stopped
from venues.kraken.symbols import ALIASES, rest_pair, websocket_symbol
from venues.rest.client import Answer, Client
from venues.rest.in_background import PATIENCE_S, InBackground
from venues.rest.rate_limit import RateLimit

# Tokenized stocks are listed only in answers to requests for this class.
CLASSES = ("currency", "tokenized_asset")
MOST_PAIRS = 20_000  # Kraken has some 1,500
# Minimum time between two requests for the list, also for a pair that is not in it or a request that failed.
AGAIN_S = 600.0
_ALTNAME = re.compile(r"[A-Za-z0-9./_-]{1,40}", re.ASCII)
_NEW = {"XBT": "BTC", "XDG": "DOGE"}


@dataclass(frozen=True)
class Spelled:
    """One pair in Kraken's spelling."""

    symbol: str  # of WebSocket v2
    pair: str  # of REST
    asset_class: str = CLASSES[0]

    def params(self) -> dict[str, str]:
        """Return the REST parameters that name the pair."""
        return {"pair": self.pair} | ({} if self.asset_class == CLASSES[0] else {"asset_class": self.asset_class})


def usual(product_id: str) -> Spelled:
    """Return the usual spelling, right for most pairs."""
    return Spelled(websocket_symbol(product_id), rest_pair(product_id))


class Spelling:
    """Looks up spellings. Thread-safe. Never raises: without the list most pairs are still spelled right."""

    def __init__(self, client: Client, state_dir: Path, stop: threading.Event, rest_rate: float = 1.0) -> None:
        self._client, self._stop = client, stop
        self._limit = RateLimit(state_dir, "kraken-pairs", rest_rate)
        self._file = state_dir / "kraken-pairs.json"
        self._read_at = 0  # mtime of the copy that was read
        self._known: dict[str, Spelled] = {}
        self._again_at = 0.0
        self._learning = threading.Lock()
        self._background = InBackground("kraken", "AssetPairs")
        self._log = get_logger().bind(venue="kraken")

    def of(self, product_id: str) -> Spelled:
        """Return the known spelling, else the usual one. Makes no request."""
        if product_id not in self._known:
            self._read()
        return self._known.get(product_id) or usual(product_id)

    def learn(self, products: Iterable[str]) -> None:
        """Request the list of pairs, unless all `products` are known or it was requested within `AGAIN_S`."""
        self._read()
        with self._learning:
            if all(product in self._known for product in products) or time.monotonic() < self._again_at:
                return
            self._again_at = time.monotonic() + AGAIN_S
            found: dict[str, Spelled] = {}
            try:
                for asset_class in CLASSES:
                    found = (
                        self._client.get("AssetPairs", {"aclass_base": asset_class}, self._limit, pairs_of(asset_class))
                        | found
                    )  # a name listed in both classes means the currency
            except PipelineError as error:
                self._log.warning(events.REQUEST_FAILED, request="AssetPairs", error=str(error))
            except Stopped:
                return
            if found:
                self._known = self._known | found
                self._write()

    def learn_soon(self, products: Iterable[str], patience_s: float = PATIENCE_S) -> None:
        """Call `learn` in a background thread and wait up to `patience_s`, so that REST cannot hold up a live
        stream."""
        wanted = tuple(products)
        self._read()
        if all(product in self._known for product in wanted) or time.monotonic() < self._again_at:
            return
        self._background.run(lambda: self.learn(wanted), patience_s)

    def _read(self) -> None:
        """Read the copy on disk if it has changed. A damaged one is ignored."""
        try:
            written_at = self._file.stat().st_mtime_ns
            if written_at == self._read_at or self._file.stat().st_size > 10_000_000:
                return
            self._read_at = written_at
            rows = json.loads(self._file.read_bytes())
            self._known = self._known | {
                str(product): Spelled(str(symbol), str(pair), str(asset_class))
                for product, (symbol, pair, asset_class) in rows.items()
            }
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return

    def _write(self) -> None:
        """Replace the copy atomically: other processes read it."""
        rows = {p: [s.symbol, s.pair, s.asset_class] for p, s in list(self._known.items())[:MOST_PAIRS]}
        fresh = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            fresh.write_text(json.dumps(rows))
            fresh.replace(self._file)
        except OSError as error:  # only a cache: without it every process requests the list itself
            self._log.warning(events.REQUEST_FAILED, request=str(self._file), error=str(error.strerror))


def pairs_of(asset_class: str) -> Any:
    """Return a parser of `AssetPairs` answers for `asset_class`: product -> spelling. Malformed pairs are skipped."""

    def read(answer: Answer) -> dict[str, Spelled]:
        try:
            listed = json.loads(answer.body)
            if listed["error"]:
                raise WrongAnswer(f"Kraken: {str(listed['error'])[:200]}")
            pairs = list(listed["result"].values())[:MOST_PAIRS]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise WrongAnswer(f"Kraken's list of pairs cannot be parsed: {type(error).__name__}") from None
        found: dict[str, Spelled] = {}
        for pair in pairs:
            try:
                base, quote = pair["wsname"].split("/")
                if pair.get("aclass_base", asset_class) != asset_class or not _ALTNAME.fullmatch(pair["altname"]):
                    continue
                product = canonical_product(pair["wsname"], ALIASES)
                symbol = f"{_NEW.get(base, base)}/{_NEW.get(quote, quote)}"
                found.setdefault(product, Spelled(symbol, pair["altname"], asset_class))
            except (WrongUse, KeyError, TypeError, ValueError, AttributeError):
                continue
        return found

    return read
