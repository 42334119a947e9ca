"""Binance's REST trades: pages ascending from an id. A long way goes through the public archive instead.

`historicalTrades` has wanted a key until 2023-08 (its security type was MARKET_DATA) and wants none since, by the
venue's documents and its own client (binance-connector-python 3.2.0). Where a deployment still does, it answers -2014,
and the key of the setting is sent. Nothing else depends on it: limits are those of the address.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.core.errors import Refused, WrongAnswer
from pipeline.core.runtime import now_us
from venues.binance import parse
from venues.binance.settings import BinanceSettings
from venues.binance.symbols import Listing, symbol_of
from venues.id_ranges import IdRange
from venues.rest.client import Answer, Client
from venues.rest.daily_files import Archive, DayFiles, Planned
from venues.rest.page import Page
from venues.rest.rate_limit import MARGIN, RateLimit

PAGE = 1000
# So many ids below the wanted ones are asked for too, as the proof that the answer begins before them.
BELOW = 10
# A day's file of a busy product has 100 MB: not fetched for what REST gives in 20 calls, which take 7 s.
WORTH_A_FILE = 20_000
# Of 6,000 a minute and address, which other programs use too.
MOST_WEIGHT = 5_000
WEIGHT = "X-MBX-USED-WEIGHT-1M"
KEY_WANTED = ("-2014", "-2015")


class BinanceRest:
    """See `venues.trade_walk.Source`. Errors are those of `venues.rest.client.Client.get`."""

    venue = "binance"
    page_rows = PAGE

    def __init__(self, settings: BinanceSettings, state_dir: Path, stop: threading.Event, *, attempts: int = 6) -> None:
        headers = {"X-MBX-TIME-UNIT": "MICROSECOND"}
        if settings.api_key is not None:
            headers["X-MBX-APIKEY"] = settings.api_key.get_secret_value()
        self._client = Client("binance", settings.rest_url, stop, attempts=attempts, headers=headers)
        self.clock = self._client.clock
        self._limit = RateLimit(state_dir, "binance", settings.rest_rate)
        self.calls_per_s = settings.rest_rate / MARGIN
        self.listing = Listing(self._client, self._limit)
        self._archive = (
            Archive(self.venue, settings.archive_url, parse.archive_path, parse.archive_row, state_dir, stop)
            if settings.archive
            else None
        )

    def prepare(self, products: Sequence[str]) -> None:
        """See `Source`: which of them Binance lists. One that it does not is refused when it is asked for."""
        self.listing.learn(products)

    def _get(self, endpoint: str, product_id: str, **params: int) -> bytes:
        """Raises `Refused` for a product that is not listed."""
        self.listing.learn([product_id])
        if reason := self.listing.refusal(product_id):
            raise Refused(reason)
        try:
            return self._client.get(endpoint, {"symbol": symbol_of(product_id), **params}, self._limit, self._body)
        except Refused as error:
            if any(code in str(error) for code in KEY_WANTED):
                raise Refused(f"Binance wants a valid key for {endpoint}; set BINANCE_API_KEY ({error})") from None
            raise

    def _body(self, answer: Answer) -> bytes:
        used = answer.headers.get(WEIGHT, "")
        if used.isdecimal() and int(used) > MOST_WEIGHT:
            self._limit.hold(60.0 - now_us() / 1e6 % 60.0)  # counted anew with each minute
        return answer.body

    def newest(self, product_id: str, count: int) -> Page:
        """The newest `count` trades, ascending."""
        return parse.rest_trades(self._get("trades", product_id, limit=count))

    def newest_trade(self, product_id: str) -> int:
        """See `Source`."""
        ids = self.newest(product_id, 10).ids
        if not ids:
            raise Refused(f"Binance has no trade of {product_id}")
        return ids[-1]

    def first_id_at(self, product_id: str, at_us: int) -> int:
        """See `Source`; one call: an aggregate names the first of its trades."""
        first = parse.first_of_aggregates(self._get("aggTrades", product_id, startTime=max(0, at_us), limit=1))
        if first is not None:
            return first
        ids = self.newest(product_id, 10).ids
        return ids[-1] + 1 if ids else 0

    def page(self, product_id: str, from_id: int) -> Page:
        """Up to a thousand trades ascending, from this id on."""
        page = parse.rest_trades(self._get("historicalTrades", product_id, fromId=from_id, limit=PAGE))
        if page.ids and page.ids[0] < from_id:
            raise WrongAnswer(f"Binance: trades from {from_id} on begin with {page.ids[0]}")
        return page

    def planned(self, product_id: str, missing: Sequence[IdRange]) -> Planned | None:
        """See `WithArchive`."""
        if self._archive is None:
            return None
        return self._archive.planned(
            symbol_of(product_id),
            [(first, last) for first, last in missing if last - first >= WORTH_A_FILE],
            lambda number: self._time_of(product_id, number),
            lambda at_us: self.first_id_at(product_id, at_us),
        )

    def _time_of(self, product_id: str, number: int) -> int:
        rows = self.page(product_id, number).rows
        if not rows:
            raise Refused(f"Binance shows no trade of {product_id} from {number} on")
        return rows[0].timestamp_us

    def pages(
        self, product_id: str, first_id: int, last_id: int, before_us: int | None, after_us: int | None
    ) -> Iterator[Page]:
        """See `Source`: ascending; each page begins with the last id of the one before.

        Where much is wanted, trades that follow without a hole in the archive's file of the day are taken from there.
        So the archive never says that an id does not exist: REST is asked for all that it does not have.
        """
        files = DayFiles(self._archive, symbol_of(product_id)) if self._archive is not None else None
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
