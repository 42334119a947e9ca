"""Trades in pages that ascend from an id. Long ranges come from a public archive instead."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from pipeline.core.errors import Refused, WrongAnswer
from venues.id_ranges import IdRange
from venues.rest.daily_files import Archive, DayFiles, Planned
from venues.rest.page import Page
from venues.rest.venue_rest import PAGE, TradesRest

# Ids requested below the wanted ones, as proof that the answer begins before them.
BELOW = 10
# A busy product's daily file has 100 MB: not fetched for what REST gives in 20 requests, which take some 7 s.
WORTH_A_FILE = 20_000


class AscendingTrades(TradesRest):
    """Implements `venues.trade_walk.Source` and `venues.rest.daily_files.WithArchive`, apart from the requests.

    `archive` None: not used. Raises what `venues.rest.client.Client.get` raises.
    """

    archive: Archive | None = None

    @abstractmethod
    def trades_from(self, product_id: str, from_id: int) -> Page:
        """Request up to `PAGE` trades, ascending from this id."""

    @abstractmethod
    def first_id_at(self, product_id: str, at_us: int) -> int:
        """See `Source`."""

    @abstractmethod
    def archive_symbol(self, product_id: str) -> str:
        """Return the name of the product in the archive."""

    def page(self, product_id: str, from_id: int) -> Page:
        """Request up to `PAGE` trades, ascending from this id. Raises `WrongAnswer` if they begin before it."""
        page = self.trades_from(product_id, from_id)
        if page.ids and page.ids[0] < from_id:
            raise WrongAnswer(f"{self.title}: trades from {from_id} on begin with {page.ids[0]}")
        return page

    def planned(self, product_id: str, missing: Sequence[IdRange]) -> Planned | None:
        """See `WithArchive`."""
        if self.archive is None:
            return None
        return self.archive.planned(
            self.archive_symbol(product_id),
            [(first, last) for first, last in missing if last - first >= WORTH_A_FILE],
            lambda number: self._time_of(product_id, number),
            lambda at_us: self.first_id_at(product_id, at_us),
        )

    def _time_of(self, product_id: str, number: int) -> int:
        """Return the time in µs of the first trade from this id on. Raises `Refused` if there is none."""
        rows = self.page(product_id, number).rows
        if not rows:
            raise Refused(f"{self.title} shows no trade of {product_id} from {number} on")
        return rows[0].timestamp_us

    def pages(
        self, product_id: str, first_id: int, last_id: int, before_us: int | None, after_us: int | None
    ) -> Iterator[Page]:
        """See `Source`. Ascending; each page begins with the last id of the previous one.

        When many trades are wanted, those that continue with contiguous ids in the archive's file of the day are taken
        from there. Everything the archive lacks is requested by REST, so it is never evidence that an id does not
        exist.
        """
        files = DayFiles(self.archive, self.archive_symbol(product_id)) if self.archive is not None else None
        from_id = max(0, first_id - BELOW)
        while True:
            page = self.page(product_id, from_id)
            yield page
            if not page.rows or len(page.ids) < PAGE or page.ids[-1] > last_id:
                return
            if files is not None and last_id - page.ids[-1] >= WORTH_A_FILE:
                for rows in files.following(page.rows[-1]):
                    page = Page(rows)
                    yield page
                    if page.ids[-1] > last_id:
                        return
            from_id = page.ids[-1]
