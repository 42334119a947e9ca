"""One exchange as ccxt presents it: its markets, and pages of its candles. Only the addresses are set by us."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ccxt

from pipeline import metrics
from pipeline.errors import BadData, PipelineError, Refused, Throttled, Unavailable, WrongAnswer
from pipeline.log import get_logger
from pipeline.process import now_us
from producers.exchange_candles.names import CALLS_PER_S
from producers.frames import decimal_text
from producers.rate_limit import RateLimit
from producers.retry import retrying
from producers.socket import Stopped, abandonable

T = TypeVar("T")

ATTEMPTS = 5  # 1 + 2 + 4 + 8 s and their jitter; who is down for longer is asked again by the next pass
ATTEMPTS_AT_START = 2  # while the others wait for the check of the symbols
TIMEOUT_MS = 15_000
PAGE_UNKNOWN = 500  # where ccxt does not say how many candles one call gives
# An exchange closes a candle a little after its time.
GRACE_US = 3_000_000
_REFUSALS = (
    ccxt.BadSymbol, ccxt.BadRequest, ccxt.NotSupported, ccxt.AuthenticationError, ccxt.PermissionDenied,
    ccxt.ArgumentsRequired,
)  # fmt: skip


@dataclass(frozen=True)
class Page:
    """Candles as rows of candles.avsc, ascending; `asked_at_us` is when they were asked for, our clock."""

    rows: list[dict[str, Any]]
    asked_at_us: int


class Exchange:
    """Calls are limited, and retried with backoff. Raises `Refused`, `Unavailable` or `Stopped`."""

    def __init__(
        self, venue: str, stop: threading.Event, state_dir: Path, *, base_url: str | None = None, delay_s: float = 0.0
    ) -> None:  # fmt: skip
        self.venue = venue
        self._stop, self._delay_s = stop, delay_s
        options = {"enableRateLimit": True, "timeout": TIMEOUT_MS, "enableLastJsonResponse": True}
        self._api: Any = getattr(ccxt, venue)(options)
        if base_url:
            self._api.urls["api"] = _moved(self._api.urls["api"], base_url.rstrip("/"))
        rate = CALLS_PER_S.get(venue, 1000 / max(1.0, float(self._api.rateLimit)))
        # Shared by all processes of the machine; ccxt's own limit knows only its process.
        self._limit = RateLimit(state_dir, f"{venue}-candles", rate)
        self._log = get_logger().bind(venue=venue)

    @property
    def page_size(self) -> int:
        """Candles that one call gives."""
        spot = (self._api.features or {}).get("spot") or {}
        return int((spot.get("fetchOHLCV") or {}).get("limit") or PAGE_UNKNOWN)

    def granularities(self) -> dict[int, str]:
        """Seconds -> ccxt's name."""
        return {int(self._api.parse_timeframe(name)): name for name in self._api.timeframes or {}}

    def load_markets(self, attempts: int = ATTEMPTS) -> None:
        self._ask("markets", self._api.load_markets, attempts=attempts)
        # From here on prices stay the text that the exchange wrote: exact wherever it writes strings, as Kraken,
        # Coinbase and Binance do. Where it writes JSON numbers, Python's parser makes floats of them, whose shortest
        # text has the same digits up to 15 of them. (Before, ccxt's own arithmetic on market limits wants floats.)
        self._api.number = str

    @property
    def loaded(self) -> bool:
        return bool(self._api.markets)

    def lists(self, product_id: str) -> bool:
        """Whether there is an active spot market of this product."""
        market = (self._api.markets or {}).get(_symbol(product_id))
        return bool(market and market.get("spot") and market.get("active") is not False)

    def page(self, product_id: str, granularity_s: int, since_us: int, limit: int) -> Page:
        """The first candles from `since_us` on, at most about `limit`; the running one is marked."""
        name = self.granularities()[granularity_s]

        def fetch() -> Page:
            asked_at_us = now_us()
            self._api.last_json_response = None
            found = self._api.fetch_ohlcv(_symbol(product_id), name, since=since_us // 1000, limit=limit)
            # A body that is no JSON would be parsed into an empty list: that is no answer.
            if not isinstance(self._api.last_json_response, (list, dict)) or not isinstance(found, list):
                raise WrongAnswer(f"{self.venue}: no JSON")
            closed_us = asked_at_us - GRACE_US - granularity_s * 1_000_000
            rows = {row["bucket_us"]: row for row in (_row(values, closed_us) for values in found) if row}
            return Page([rows[bucket] for bucket in sorted(rows) if bucket >= since_us], asked_at_us)

        return self._ask(f"candles of {product_id}", fetch, limited=True)

    def _ask(self, what: str, call: Callable[[], T], *, limited: bool = False, attempts: int = ATTEMPTS) -> T:
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

        return retrying(what, attempts, self._stop, self._log)(attempt)

    def _mapped(self, call: Callable[[], T]) -> T:
        """Our error for one of ccxt's. What it does not foresee (a body of another shape) is no answer."""
        try:
            return call()
        except (ccxt.RateLimitExceeded, ccxt.DDoSProtection) as error:
            raise Throttled(_text(error)) from None
        except _REFUSALS as error:
            raise Refused(_text(error)) from None
        except ccxt.BaseError as error:  # network, maintenance, and whatever an exchange calls an error
            raise Unavailable(_text(error)) from None
        except (TypeError, KeyError, AttributeError, ValueError, IndexError, ArithmeticError, BadData) as error:
            raise WrongAnswer(f"{self.venue}: {type(error).__name__}: {error}"[:300]) from None


def _symbol(product_id: str) -> str:
    return product_id.replace("-", "/")


def _moved(urls: Any, base_url: str) -> Any:
    """ccxt's addresses (nested by kind) with scheme and host replaced."""
    if isinstance(urls, dict):
        return {key: _moved(value, base_url) for key, value in urls.items()}
    return re.sub(r"^\w+://[^/]+", lambda _: base_url, urls) if isinstance(urls, str) else urls


def _row(values: list[Any], closed_us: int) -> dict[str, Any] | None:
    """`[ms, open, high, low, close, volume]` -> a row; None where the exchange says that nothing was traded."""
    if any(value is None for value in values[:6]):
        return None
    bucket_us = int(values[0]) * 1000
    o, h, low, c, volume = (decimal_text(repr(v) if isinstance(v, float) else v) for v in values[1:6])
    return {
        "bucket_us": bucket_us, "open": o, "high": h, "low": low, "close": c, "volume": volume,
        "final": bucket_us <= closed_us,
    }  # fmt: skip


def _text(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
