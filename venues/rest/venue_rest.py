"""Base classes of the venues' REST clients."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pipeline.core.errors import Refused, Unavailable
from pipeline.core.settings import VenueSettings
from venues.rest.client import ATTEMPTS, Answer, Client
from venues.rest.page import Page
from venues.rest.rate_limit import MARGIN, RateLimit

T = TypeVar("T")

PAGE = 1000  # most trades in one answer, at all of these venues


class VenueRest:
    """One venue's client, with a rate limit that all processes of the machine share.

    `attempts`: calls per request before it counts as unavailable. `headers` are sent with each request.
    """

    venue: str
    title: str
    """Display name, for messages."""
    limit_name: str = ""
    """Name of the rate limit, if it is not that of the venue."""

    def __init__(
        self,
        settings: VenueSettings,
        state_dir: Path,
        stop: threading.Event,
        *,
        attempts: int = ATTEMPTS,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._client = Client(self.venue, settings.rest_url, stop, attempts=attempts, headers=headers)
        self.clock = self._client.clock
        self._state_dir, self._rate = state_dir, settings.rest_rate
        self._limits: dict[str, RateLimit] = {}
        self._limit = self._limit_called(self.limit_name or self.venue)
        self.calls_per_s = settings.rest_rate / MARGIN

    def get(
        self,
        path: str,
        params: Mapping[str, str | int],
        understand: Callable[[Answer], T],
        limit: str = "",
        *,
        may_be_old: bool = False,
    ) -> T:
        """Request `path` and return `understand(answer)`. Raises what `Client.get` raises.

        `limit` names a separate rate limit, for a venue that counts such requests separately. `may_be_old`: an answer
        from a cache is good enough.
        """

        def understood(answer: Answer) -> T:
            if not may_be_old:
                answer.check_age()
            return understand(answer)

        return self._client.get(path, params, self._limit_called(limit) if limit else self._limit, understood)

    def _limit_called(self, name: str) -> RateLimit:
        if name not in self._limits:
            self._limits[name] = RateLimit(self._state_dir, name, self._rate)
        return self._limits[name]


class TradesRest(VenueRest, ABC):
    """The methods of `venues.trade_walk.Source` that do not depend on how a venue pages its trades."""

    page_rows = PAGE
    newest_rows = 10
    """Trades requested to find the newest id."""
    untraded = "has no trades of"
    """Words between `title` and a product that has never traded."""

    def prepare(self, products: Sequence[str]) -> None:
        """See `Source`. There is nothing to look up unless a venue overrides this."""

    @abstractmethod
    def newest(self, product_id: str, count: int) -> Page:
        """Request the newest `count` trades; returned ascending by id."""

    def next_id(self, product_id: str) -> int:
        """Return the newest trade's id + 1; 0 if the product has never traded. Rows that cannot be stored do not count:
        their ids may be as wrong as the rest of them."""
        page = self.newest(product_id, self.newest_rows)
        if page.rows:
            return page.rows[-1].trade_id + 1
        if page.bad or page.blurred:
            raise Unavailable(f"{self.title}: none of the newest trades of {product_id} can be stored")
        return 0

    def newest_trade(self, product_id: str) -> int:
        """See `Source`."""
        following = self.next_id(product_id)
        if not following:
            raise Refused(f"{self.title} {self.untraded} {product_id}")
        return following - 1
