"""Trades in pages that descend from an id, at a venue without a time cursor."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

from pipeline.core.errors import WrongAnswer
from schemas.records import TradeRow
from venues.rest.page import Page
from venues.rest.venue_rest import PAGE, TradesRest

# Ids requested above the wanted ones, as proof that the answer reaches beyond them.
ABOVE = 10
# After this many interpolations by trading rate, the search for a time falls back to bisection.
GUESSES = 12


class DescendingTrades(TradesRest):
    """Implements `venues.trade_walk.Source`, apart from the requests. Raises what `venues.rest.client.Client.get`
    raises."""

    @abstractmethod
    def trades_below(self, product_id: str, after: int | None, limit: int) -> Page:
        """Request up to `limit` trades with ids below `after`, or the newest if None; returned ascending by id."""

    def page(self, product_id: str, after: int | None) -> Page:
        """Request a whole page as `trades_below` does. Raises `WrongAnswer` if it does not lie below `after`."""
        page = self.trades_below(product_id, after, PAGE)
        if after is not None and page.ids and page.ids[-1] >= after:
            raise WrongAnswer(f"{self.title}: asked for trade ids below {after}, got {page.ids[-1]}")
        return page

    def newest(self, product_id: str, count: int) -> Page:
        """Request the newest `count` trades; returned ascending by id."""
        return self.trades_below(product_id, None, count)

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
