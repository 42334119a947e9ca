"""Kraken REST `Trades`: pages ascending from a nanosecond time cursor. There is no id cursor."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from venues.kraken import parse
from venues.kraken.settings import KrakenSettings
from venues.kraken.spelling import Spelling
from venues.kraken.symbols import rest_pair
from venues.rest.by_time import TradesByTime
from venues.rest.page import Page
from venues.rest.venue_rest import PAGE


class KrakenRest(TradesByTime):
    """Implements `venues.trade_walk.Source`. One rate limit per pair, and one for the list of pairs. Raises what
    `venues.rest.client.Client.get` raises."""

    venue, title = "kraken", "Kraken"
    limit_name = "kraken-pairs"
    newest_rows = 50  # because trade times are not monotonic in id

    def __init__(self, settings: KrakenSettings, state_dir: Path, stop: threading.Event, *, attempts: int = 6) -> None:
        super().__init__(settings, state_dir, stop, attempts=attempts)
        self.spelling = Spelling(self, state_dir)

    def prepare(self, products: Sequence[str]) -> None:
        """See `Source`: learns how Kraken spells the products."""
        self.spelling.learn(products)

    def page(self, product_id: str, since_ns: str | None, count: int = PAGE) -> tuple[Page, str]:
        spelled = self.spelling.of(product_id)
        params: dict[str, str | int] = {**spelled.params(), "count": count}
        if since_ns is not None:
            params["since"] = since_ns
        limit = f"kraken-{rest_pair(product_id)}"
        return self.get("Trades", params, lambda answer: parse.rest_trades(answer.body, spelled.names()), limit)
