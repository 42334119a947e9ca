"""Kraken REST `Trades`: pages ascending from a nanosecond time cursor. There is no id cursor."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from venues.kraken import parse
from venues.kraken.settings import KrakenSettings
from venues.kraken.spelling import Spelling
from venues.kraken.symbols import rest_pair
from venues.rest.page import Page
from venues.rest.rate_limit import RateLimit
from venues.rest.venue_rest import TradesRest

PAGE = 1000
# Stored times are truncated to µs (WebSocket) or went through a float (REST), so start a little earlier.
EARLIER_US = 1000
# Where no time before the wanted ids is known: start this much before the time after them, then four times as much ...
FIRST_LOOK_BACK_US = 60_000_000


class KrakenRest(TradesRest):
    """Implements `venues.trade_walk.Source`. One rate limit per pair, and one for the list of pairs. Raises what
    `venues.rest.client.Client.get` raises."""

    venue, title = "kraken", "Kraken"
    limit_name = "kraken-pairs"
    page_rows = PAGE
    newest_rows = 50  # because trade times are not monotonic in id

    def __init__(self, settings: KrakenSettings, state_dir: Path, stop: threading.Event, *, attempts: int = 6) -> None:
        super().__init__(settings, state_dir, stop, attempts=attempts)
        self._settings, self._state_dir = settings, state_dir
        self._limits: dict[str, RateLimit] = {}
        self.spelling = Spelling(self, state_dir)

    def _limit_of(self, product_id: str) -> RateLimit:
        if product_id not in self._limits:
            name = f"kraken-{rest_pair(product_id)}"
            self._limits[product_id] = RateLimit(self._state_dir, name, self._settings.rest_rate)
        return self._limits[product_id]

    def prepare(self, products: Sequence[str]) -> None:
        """See `Source`: learns how Kraken spells the products."""
        self.spelling.learn(products)

    def page(self, product_id: str, since_ns: str | None, count: int = PAGE) -> tuple[Page, str]:
        """Request up to `count` trades after `since_ns`, or the newest if None; returns (page ascending, `last`)."""
        params: dict[str, str | int] = {**self.spelling.of(product_id).params(), "count": count}
        if since_ns is not None:
            params["since"] = since_ns
        return self._client.get(
            "Trades", params, self._limit_of(product_id), lambda answer: parse.rest_trades(answer.body)
        )

    def newest(self, product_id: str, count: int) -> Page:
        return self.page(product_id, None, count)[0]

    def first_id_at(self, product_id: str, at_us: int) -> int:
        """See `Source`. One request, two where no trade is that new."""
        page, _ = self.page(product_id, str(max(0, at_us * 1000 - 1)))
        ids = [row.trade_id for row in page.rows if row.timestamp_us >= at_us]
        return min(ids) if ids else self.next_id(product_id)

    def pages(
        self, product_id: str, first_id: int, last_id: int, before_us: int | None, after_us: int | None
    ) -> Iterator[Page]:
        """See `Source`. Ascending."""
        since: str | None = self._start(product_id, first_id, before_us, after_us)
        while since is not None:
            page, last = self.page(product_id, since)
            yield page
            if page.ids and page.ids[-1] > last_id:
                return
            since = next_cursor(since, last, len(page.ids))

    def _start(self, product_id: str, first_id: int, before_us: int | None, after_us: int | None) -> str:
        """Return a cursor before `first_id`."""
        if before_us is not None:
            return str(max(0, before_us - EARLIER_US) * 1000)
        if after_us is None:
            page, _ = self.page(product_id, None)
            after_us = page.rows[0].timestamp_us if page.rows else 0
        back_us = FIRST_LOOK_BACK_US
        while back_us < after_us:
            since = str((after_us - back_us) * 1000)
            page, _ = self.page(product_id, since)
            if page.ids and page.ids[0] <= first_id:
                return since
            back_us *= 4
        return "0"


def next_cursor(since_ns: str, last: str, rows: int) -> str | None:
    """Return `since` for the next page, or None if this was the last one.

    Several trades may share the nanosecond `last` and the page may hold only some of them, so step back by one. A page
    of a single nanosecond would then repeat forever: in that case use `last` itself; the rest of that nanosecond's
    trades cannot be reached at all (`trade_walk.UNREACHABLE`).
    """
    if rows < PAGE:
        return None
    following = str(int(last) - 1)
    if int(following) > int(since_ns):
        return following
    return last if int(last) > int(since_ns) else None
