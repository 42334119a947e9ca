"""Candles of an exchange through ccxt, whose URLs, HTTP session and parsing of JSON and rows are replaced by ours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import ccxt
import requests

from pipeline.core.errors import BadData, PipelineError, Refused, Throttled, Unavailable, WrongAnswer
from venues.candle_source import GivenCandles, Units
from venues.events import check_elements
from venues.rest.bounded import BoundedSession
from venues.rest.client import retry_after_s

T = TypeVar("T")

TIMEOUT_MS = 15_000
PAGE_UNKNOWN = 500  # where ccxt does not know how many candles one call returns
MAX_CANDLES_BYTES = 4 * 1024 * 1024  # a page of 1,000 has 150 kB; all markets of an exchange have some 10 MB
# Of their JSON: a page has some 12,000, the longest list of markets known (Binance's) 1.5 million.
MAX_CANDLES_ELEMENTS, MAX_MARKETS_ELEMENTS = 100_000, 3_000_000
# Calls per second. ccxt's figure is for signed requests; public ones are limited to 10 per second and IP address.
CALLS_PER_S = {"coinbase": 8.0}
_REFUSALS = (
    ccxt.BadSymbol,
    ccxt.BadRequest,
    ccxt.NotSupported,
    ccxt.AuthenticationError,
    ccxt.PermissionDenied,
    ccxt.ArgumentsRequired,
)
# Numbers stay text as the exchange wrote them. NaN becomes text too, so that it invalidates its row, not the answer.
_JSON = json.JSONDecoder(
    parse_float=str, parse_int=lambda text: int(text) if len(text) < 19 else text, parse_constant=str
)


class CcxtSource:
    """Implements `venues.candle_source.CandleSource`. Not thread-safe."""

    def __init__(self, venue: str, base_url: str | None = None) -> None:
        self._venue = venue
        self.session = BoundedSession()
        options = {
            "enableRateLimit": True,
            "timeout": TIMEOUT_MS,
            "enableLastJsonResponse": True,
            "session": self.session,
        }
        self.api: Any = getattr(ccxt, venue)(options)
        if base_url:
            self.api.urls["api"] = _moved(self.api.urls["api"], base_url.rstrip("/"))
        self.api.on_json_response = _bounded(self.api.on_json_response, MAX_MARKETS_ELEMENTS)
        self._seen: list[tuple[Any, Any]] | None = None
        self.api.parse_ohlcvs = self._keep
        spot = (self.api.features or {}).get("spot") or {}
        self.page_size = int((spot.get("fetchOHLCV") or {}).get("limit") or PAGE_UNKNOWN)
        self.calls_per_s = CALLS_PER_S.get(venue, 1000 / max(1.0, float(self.api.rateLimit)))

    def _names(self) -> dict[int, str]:
        names: dict[int, str] = {}
        for name in self.api.timeframes or {}:
            with suppress(ccxt.NotSupported, ValueError):  # of some exchanges ccxt lists what it cannot read itself
                names[int(self.api.parse_timeframe(name))] = name
        return names

    def granularities(self) -> Collection[int]:
        return self._names().keys()

    def load(self) -> None:
        self._mapped(self.api.load_markets)
        # From here on prices stay text as the exchange wrote them. (Loading markets, ccxt computes with floats.)
        self.api.number = str
        self.api.on_json_response = _bounded(_JSON.decode, MAX_CANDLES_ELEMENTS)
        self.session.max_bytes = MAX_CANDLES_BYTES

    @property
    def loaded(self) -> bool:
        return bool(self.api.markets)

    def lists(self, product_id: str) -> bool:
        market = (self.api.markets or {}).get(_symbol(product_id))
        return bool(market and market.get("spot") and market.get("active") is not False)

    def units(self, product_id: str) -> Units:
        precision = (self.api.markets[_symbol(product_id)].get("precision") or {}) if self.loaded else {}
        return Units(*(self._unit(precision.get(name)) for name in ("price", "amount")))

    def _unit(self, value: Any) -> Decimal | None:
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            return None
        if self.api.precisionMode == ccxt.DECIMAL_PLACES and 0 <= number <= 18:
            return Decimal(1).scaleb(-int(number))
        return number if self.api.precisionMode == ccxt.TICK_SIZE and number.is_finite() and number > 0 else None

    def fetch(self, product_id: str, granularity_s: int, since_us: int, limit: int) -> GivenCandles:
        return self._mapped(lambda: self._fetch(product_id, granularity_s, since_us, limit))

    def _fetch(self, product_id: str, granularity_s: int, since_us: int, limit: int) -> GivenCandles:
        name = self._names()[granularity_s]
        self.api.last_json_response = self._seen = None
        found = self.api.fetch_ohlcv(_symbol(product_id), name, since=since_us // 1000, limit=limit)
        # ccxt would parse a body that is not JSON, or not about candles, into an empty list.
        body, headers = self.api.last_json_response, self.api.last_response_headers
        if not isinstance(body, (list, dict)) or not isinstance(found, list):
            raise WrongAnswer(f"{self._venue}: not JSON")
        pairs = self._seen if self._seen is not None else [(row, row) for row in found]
        if not pairs and not _says_nothing(body):
            raise WrongAnswer(f"{self._venue}: an answer without a list of candles")
        return GivenCandles(pairs, headers.get("Date") if headers else None)

    def _keep(
        self,
        rows: Any,
        market: Any = None,
        timeframe: str = "1m",
        since: Any = None,
        limit: Any = None,
        tail: bool = False,
    ) -> list[Any]:
        """Replacement for ccxt's `parse_ohlcvs`, which fails on one malformed row and silently drops others."""
        self._seen = self._seen or []
        for raw in rows if isinstance(rows, list) else []:
            try:
                self._seen.append((self.api.parse_ohlcv(raw, market), raw))
            except Exception as error:  # whatever a parser raises on a malformed row
                self._seen.append((error, raw))
        return [made for made, _ in self._seen if not isinstance(made, Exception)]

    def _mapped(self, call: Callable[[], T]) -> T:
        """Call and map ccxt's errors to ours. Unexpected ones (a malformed body) become `WrongAnswer`."""
        self.api.last_response_headers = None
        try:
            return call()
        except PipelineError:
            raise
        except (ccxt.RateLimitExceeded, ccxt.DDoSProtection) as error:
            raise Throttled(_text(error), retry_after_s(self.api.last_response_headers or {})) from None
        except _REFUSALS as error:
            raise Refused(_text(error)) from None
        except ccxt.BaseError as error:  # network, maintenance, and whatever an exchange calls an error
            raise Unavailable(_text(error)) from None
        except Exception as error:
            raise WrongAnswer(f"{self._venue}: {type(error).__name__}: {error}"[:300]) from None


def _bounded(decode: Callable[[str], Any], most: int) -> Callable[[str], Any]:
    """Return `decode`, which raises `WrongAnswer` for JSON of more elements."""

    def bounded(text: str) -> Any:
        try:
            check_elements(text, most)
        except BadData as error:
            raise WrongAnswer(str(error)) from None
        return decode(text)

    return bounded


def _says_nothing(body: Any, depth: int = 4) -> bool:
    """Whether the body contains an empty list of something other than errors."""
    if isinstance(body, list):
        return not body or (depth > 0 and any(_says_nothing(one, depth - 1) for one in body[:10]))
    if isinstance(body, dict) and depth > 0:
        return any(_says_nothing(one, depth - 1) for key, one in body.items() if not str(key).lower().startswith("err"))
    return False


def _symbol(product_id: str) -> str:
    return product_id.replace("-", "/")


def _moved(urls: Any, base_url: str) -> Any:
    """Return ccxt's URLs (nested by kind) with scheme and host replaced."""
    if isinstance(urls, dict):
        return {key: _moved(value, base_url) for key, value in urls.items()}
    return re.sub(r"^\w+://[^/]+", lambda _: base_url, urls) if isinstance(urls, str) else urls


def _text(error: BaseException) -> str:
    """Return the text of ccxt's error and of the HTTP error behind it."""
    cause = error.__cause__
    more = f" ({cause})" if isinstance(cause, requests.RequestException) and cause.args else ""
    return " ".join(f"{error}{more}".split())[:300]
