"""Coinbase Exchange REST trades: pages descending from an id. There is no time cursor."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.core.errors import Refused, WrongAnswer
from schemas.records import TradeRow
from venues.coinbase import parse
from venues.coinbase.settings import CoinbaseSettings
from venues.rest.client import Client
from venues.rest.page import Page
from venues.rest.rate_limit import MARGIN, RateLimit

PAGE = 1000
# Ids requested above the wanted ones, as proof that the answer reaches beyond them.
ABOVE = 10
# After this many interpolations by trading rate, the search for a time falls back to bisection.
GUESSES = 12


class CoinbaseRest:
    """Implements `venues.trade_walk.Source`. Raises what `venues.rest.client.Client.get` raises."""

    venue = "coinbase"
    page_rows = PAGE

    def __init__(
        self, settings: CoinbaseSettings, state_dir: Path, stop: threading.Event, *, attempts: int = 6
    ) -> None:
        self._client = Client("coinbase", settings.rest_url, stop, attempts=attempts)
        self.clock = self._client.clock
        self._limit = RateLimit(state_dir, "coinbase-exchange", settings.rest_rate)
        self.calls_per_s = settings.rest_rate / MARGIN

    def prepare(self, products: Sequence[str]) -> None:
        """See `Source`: nothing to do, Coinbase uses canonical product ids."""

    def page(self, product_id: str, after: int | None, limit: int = PAGE) -> Page:
        """Request up to `limit` trades with ids below `after`, or the newest if None; returned ascending by id."""
        params: dict[str, str | int] = {"limit": limit}
        if after is not None:
            params["after"] = after
        path = f"products/{product_id}/trades"
        page = self._client.get(path, params, self._limit, lambda answer: parse.rest_trades(answer.body))
        if after is not None and page.ids and page.ids[-1] >= after:
            raise WrongAnswer(f"Coinbase: asked for trade ids below {after}, got {page.ids[-1]}")
        return page

    def newest_trade(self, product_id: str) -> int:
        """See `Source`."""
        ids = self.page(product_id, None, limit=10).ids
        if not ids:
            raise Refused(f"Coinbase has no trades of {product_id}")
        return ids[-1]

    def pages(
        self, product_id: str, first_id: int, last_id: int, before_us: int | None, after_us: int | None
    ) -> Iterator[Page]:
        """See `Source`. Descending; each page includes the lowest id of the previous one."""
        after = last_id + 1 + ABOVE
        while True:
            page = self.page(product_id, after)
            if not page.ids:
                return
            yield page
            lowest = page.ids[0]
            if lowest < first_id or lowest <= 1:
                return
            after = lowest + 1 if lowest + 1 < after else lowest

    def first_id_at(self, product_id: str, at_us: int) -> int:
        """See `Source`. Invariant: ids below `low` are earlier than `at_us`, ids from `high` on are not. Interpolates
        by trading rate, then bisects."""
        newest = self.page(product_id, None)
        if not newest.ids:
            return 0
        rows, low, high = newest.rows, 0, newest.ids[-1] + 1
        guesses = 0
        while True:
            if rows:
                if rows[0].timestamp_us < at_us <= rows[-1].timestamp_us:
                    return next(row.trade_id for row in rows if row.timestamp_us >= at_us)
                if rows[-1].timestamp_us < at_us:
                    low = max(low, rows[-1].trade_id + 1)
                else:
                    high = min(high, rows[0].trade_id)
            if low >= high:
                return high
            after = (low + high) // 2 + 1
            if rows and guesses < GUESSES:
                after = self._guess(rows, at_us)
            after = min(max(after, low + 1), high)
            guesses += 1
            asked, rows = after, self.page(product_id, after).rows
            if not rows or rows[-1].timestamp_us < at_us:
                low = max(low, asked)  # every trade below `asked` is earlier

    @staticmethod
    def _guess(rows: list[TradeRow], at_us: int) -> int:
        """Extrapolate the id at `at_us` from this page's trading rate, plus half a page so that the page contains
        it."""
        span_us = max(1, rows[-1].timestamp_us - rows[0].timestamp_us)
        per_us = len(rows) / span_us
        return int(rows[0].trade_id + (at_us - rows[0].timestamp_us) * per_us) + PAGE // 2
