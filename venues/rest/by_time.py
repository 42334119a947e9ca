"""Trades in pages that ascend from a time in nanoseconds, at a venue without an id cursor."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

from venues.rest.page import Page
from venues.rest.venue_rest import PAGE, TradesRest

# Stored times are truncated to µs (WebSocket) or went through a float (REST), so start a little earlier.
EARLIER_US = 1000
# Where no time before the wanted ids is known: start this much before the time after them, then four times as much ...
FIRST_LOOK_BACK_US = 60_000_000


class TradesByTime(TradesRest):
    """Implements `venues.trade_walk.Source`, apart from the requests. Raises what `venues.rest.client.Client.get`
    raises."""

    @abstractmethod
    def page(self, product_id: str, since_ns: str | None, count: int = PAGE) -> tuple[Page, str]:
        """Request up to `count` trades after `since_ns`, or the newest if None; returns the page, ascending by id, and
        the time of its last trade as the venue writes it, in ns since 1970."""

    def newest(self, product_id: str, count: int) -> Page:
        """Request the newest `count` trades; returned ascending by id."""
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
            since = next_cursor(since, last, full=len(page.ids) >= PAGE)

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


def next_cursor(since_ns: str, last_ns: str, *, full: bool) -> str | None:
    """Return `since` for the next page, or None if this was the last one: it was not full, or there is no way on.

    Several trades may share the nanosecond `last_ns` and the page may hold only some of them, so step back by one. A
    page of a single nanosecond would then repeat forever: in that case use `last_ns` itself; the rest of that
    nanosecond's trades cannot be reached at all (`trade_walk.UNREACHABLE`).
    """
    if not full:
        return None
    following = str(int(last_ns) - 1)
    if int(following) > int(since_ns):
        return following
    return last_ns if int(last_ns) > int(since_ns) else None
