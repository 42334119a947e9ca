"""One exchange through ccxt: its markets and its candles. URLs, the HTTP session and the parsing of JSON and rows are
replaced by ours."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import ccxt
import requests

from pipeline.core import events, metrics
from pipeline.core.errors import PipelineError, Refused, Throttled, Unavailable, WrongAnswer
from pipeline.core.log import get_logger
from pipeline.core.retry import asking
from pipeline.core.runtime import now_us
from pipeline.core.stopping import Stopped, abandonable
from producers.exchange_candles.looks import Answer
from producers.exchange_candles.names import CALLS_PER_S
from producers.exchange_candles.rows import Units, read_rows
from venues.rest.bounded import BoundedSession
from venues.rest.rate_limit import RateLimit

T = TypeVar("T")

ATTEMPTS = 5  # 1 + 2 + 4 + 8 s plus jitter; an exchange that is down for longer is retried in the next pass
ATTEMPTS_AGAIN = 2  # at the start, while the others wait, and for an exchange that failed last time
TIMEOUT_MS = 15_000
PAGE_UNKNOWN = 500  # where ccxt does not know how many candles one call returns
MAX_CANDLES_BYTES = 4 * 1024 * 1024  # a page of 1,000 has 150 kB; all markets of an exchange have some 10 MB
# If an exchange's clock is this far behind ours, one of the two is wrong and no candle can be called closed.
CLOCKS_APART_US = 900_000_000
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


class Exchange:
    """Rate-limited calls, retried with backoff. They raise `Refused`, `Unavailable` or `Stopped`. Not thread-safe."""

    def __init__(
        self, venue: str, stop: threading.Event, state_dir: Path, *, base_url: str | None = None, delay_s: float = 0.0
    ) -> None:
        self.venue = venue
        self._stop, self._delay_s = stop, delay_s
        self._session = BoundedSession()
        options = {
            "enableRateLimit": True,
            "timeout": TIMEOUT_MS,
            "enableLastJsonResponse": True,
            "session": self._session,
        }
        self._api: Any = getattr(ccxt, venue)(options)
        if base_url:
            self._api.urls["api"] = _moved(self._api.urls["api"], base_url.rstrip("/"))
        self._seen: list[tuple[Any, Any]] | None = None
        self._api.parse_ohlcvs = self._keep
        self.page_size = self._page_size()
        self.behind_us = 0  # how far its clock is behind ours
        self._attempts = ATTEMPTS
        rate = CALLS_PER_S.get(venue, 1000 / max(1.0, float(self._api.rateLimit)))
        # Shared by all processes of the machine; ccxt's own limit is per process.
        self._limit = RateLimit(state_dir, f"{venue}-candles", rate)
        self._log = get_logger().bind(venue=venue)

    def _page_size(self) -> int:
        spot = (self._api.features or {}).get("spot") or {}
        return int((spot.get("fetchOHLCV") or {}).get("limit") or PAGE_UNKNOWN)

    def gives_at_most(self, candles: int) -> None:
        """Reduce the page size: the exchange returns fewer candles per call than ccxt says."""
        if 0 < candles < self.page_size:
            self.page_size = candles
            self._log.info(events.RATE_LIMIT, status="smaller pages", candles=candles)

    def granularities(self) -> dict[int, str]:
        """Return the offered granularities: seconds -> ccxt's name."""
        return {int(self._api.parse_timeframe(name)): name for name in self._api.timeframes or {}}

    def load_markets(self, attempts: int = ATTEMPTS) -> None:
        self._ask("markets", self._api.load_markets, attempts=attempts)
        # From here on prices stay text as the exchange wrote them. (Loading markets, ccxt computes with floats.)
        self._api.number = str
        self._api.on_json_response = _JSON.decode
        self._session.max_bytes = MAX_CANDLES_BYTES

    @property
    def loaded(self) -> bool:
        return bool(self._api.markets)

    def lists(self, product_id: str) -> bool:
        """Whether the exchange has an active spot market for this product."""
        market = (self._api.markets or {}).get(_symbol(product_id))
        return bool(market and market.get("spot") and market.get("active") is not False)

    def now_us(self) -> int:
        """The earlier of our time and the exchange's, so that a candle closed by it is closed for both."""
        return now_us() - self.behind_us

    def candles(self, product_id: str, granularity_s: int, since_us: int, limit: int) -> Answer:
        """Request `limit` candles from `since_us`; returns whatever the exchange gives."""
        name = self.granularities()[granularity_s]

        def fetch() -> Answer:
            asked_us, began_s = now_us(), time.monotonic()
            self._api.last_json_response = self._api.last_response_headers = self._seen = None
            found = self._api.fetch_ohlcv(_symbol(product_id), name, since=since_us // 1000, limit=limit)
            took_us = round((time.monotonic() - began_s) * 1e6)
            # ccxt would parse a body that is not JSON, or not about candles, into an empty list.
            body = self._api.last_json_response
            if not isinstance(body, (list, dict)) or not isinstance(found, list):
                raise WrongAnswer(f"{self.venue}: not JSON")
            pairs = self._seen if self._seen is not None else [(row, row) for row in found]
            if not pairs and not _says_nothing(body):
                raise WrongAnswer(f"{self.venue}: an answer without a list of candles")
            rows = read_rows(pairs, granularity_s * 1_000_000, self._units(product_id))
            if rows.refused and not rows.good and all(one.bucket_us is None for one in rows.refused):
                raise WrongAnswer(f"{self.venue}: no candle in the answer: {rows.refused[0].detail}"[:300])
            return Answer(rows, asked_us - self._compare_clocks(asked_us, took_us))

        return self._ask(f"candles of {product_id}", fetch, limited=True)

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
                self._seen.append((self._api.parse_ohlcv(raw, market), raw))
            except Exception as error:  # whatever a parser raises on a malformed row
                self._seen.append((error, raw))
        return [made for made, _ in self._seen if not isinstance(made, Exception)]

    def _units(self, product_id: str) -> Units:
        precision = (self._api.markets[_symbol(product_id)].get("precision") or {}) if self.loaded else {}
        return Units(*(self._unit(precision.get(name)) for name in ("price", "amount")))

    def _unit(self, value: Any) -> Decimal | None:
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            return None
        if self._api.precisionMode == ccxt.DECIMAL_PLACES and 0 <= number <= 18:
            return Decimal(1).scaleb(-int(number))
        return number if self._api.precisionMode == ccxt.TICK_SIZE and number.is_finite() and number > 0 else None

    def _compare_clocks(self, asked_us: int, took_us: int) -> int:
        """Return how old the answer may have been when requested, by its `Date`: a slow clock, or a cache.

        `Date` has whole seconds and tells when the answer was sent. What is in it may be older by all the time that the
        answer took: by that much our clock may be ahead of the exchange's and the two still look equal.
        """
        headers = self._api.last_response_headers
        try:
            date = parsedate_to_datetime(headers["Date"]).timestamp() if headers else None
        except (KeyError, TypeError, ValueError, OverflowError):
            date = None
        behind = 0 if date is None else max(0, asked_us - int(date * 1e6) + took_us)
        if behind > CLOCKS_APART_US + took_us:
            raise WrongAnswer(f"{self.venue}: its clock is {behind / 1e6:.0f} s behind ours; is ours right?")
        self.behind_us = behind
        return behind

    def _ask(self, what: str, call: Callable[[], T], *, limited: bool = False, attempts: int | None = None) -> T:
        def attempt() -> T:
            if limited:
                self._limit.wait(self._stop)
                if self._delay_s and self._stop.wait(self._delay_s):
                    raise Stopped
            try:
                made = abandonable(lambda: self._mapped(call), self._stop, f"{self.venue} {what}")
            except PipelineError as error:
                metrics.REQUESTS.labels(self.venue, type(error).__name__).inc()
                raise
            metrics.REQUESTS.labels(self.venue, "ok").inc()
            return made

        try:
            made = asking(what, attempt, attempts or self._attempts, self._stop, self._log)
        except Unavailable:
            self._attempts = ATTEMPTS_AGAIN
            raise
        self._attempts = ATTEMPTS
        return made

    def _mapped(self, call: Callable[[], T]) -> T:
        """Call and map ccxt's errors to ours. Unexpected ones (a malformed body) become `WrongAnswer`."""
        try:
            return call()
        except PipelineError:
            raise
        except (ccxt.RateLimitExceeded, ccxt.DDoSProtection) as error:
            raise Throttled(_text(error)) from None
        except _REFUSALS as error:
            raise Refused(_text(error)) from None
        except ccxt.BaseError as error:  # network, maintenance, and whatever an exchange calls an error
            raise Unavailable(_text(error)) from None
        except Exception as error:
            raise WrongAnswer(f"{self.venue}: {type(error).__name__}: {error}"[:300]) from None


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
