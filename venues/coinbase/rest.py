"""Coinbase Exchange REST trades: pages descending from an id. There is no cursor by time."""

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
# So many ids above the wanted ones are asked for too, as the proof that the answer goes beyond them.
ABOVE = 10
# After so many guesses by the rate of trading, the search for a moment halves what is left.
GUESSES = 12


class CoinbaseRest:
    """See `venues.trade_walk.Source`. Errors are those of `venues.rest.client.Client.get`."""

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
        """See `Source`: Coinbase writes products as we do."""

    def page(self, product_id: str, after: int | None, limit: int = PAGE) -> Page:
        """Up to `limit` trades ascending: those with ids below `after`, or the newest where it is None."""
        params: dict[str, str | int] = {"limit": limit}
        if after is not None:
            params["after"] = after
        path = f"products/{product_id}/trades"
        page = self._client.get(path, params, self._limit, lambda answer: parse.rest_trades(answer.body))
        if after is not None and page.ids and page.ids[-1] >= after:
            raise WrongAnswer(f"Coinbase: trades after {after} go up to {page.ids[-1]}")
        return page

    def newest_trade(self, product_id: str) -> int:
        """See `Source`."""
        ids = self.page(product_id, None, limit=10).ids
        if not ids:
            raise Refused(f"Coinbase has no trade of {product_id}")
        return ids[-1]

    def pages(
        self, product_id: str, first_id: int, last_id: int, before_us: int | None, after_us: int | None
    ) -> Iterator[Page]:
        """See `Source`: descending; each page holds the lowest id of the one before."""
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
        """See `Source`. Ids below `low` are earlier, `high` and above are not: guess by the rate, then halve."""
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
                low = max(low, asked)  # whatever exists below `asked` is earlier

    @staticmethod
    def _guess(rows: list[TradeRow], at_us: int) -> int:
        """Where the moment would be if trading went on as on this page; half a page above, to have it inside."""
        span_us = max(1, rows[-1].timestamp_us - rows[0].timestamp_us)
        per_us = len(rows) / span_us
        return int(rows[0].trade_id + (at_us - rows[0].timestamp_us) * per_us) + PAGE // 2
