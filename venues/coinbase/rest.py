"""Coinbase Exchange REST trades: pages descending from an id. There is no time cursor."""

from __future__ import annotations

from venues.coinbase import parse
from venues.rest.descending import DescendingTrades
from venues.rest.page import Page


class CoinbaseRest(DescendingTrades):
    """Implements `venues.trade_walk.Source`. Raises what `venues.rest.client.Client.get` raises."""

    venue, title = "coinbase", "Coinbase"
    limit_name = "coinbase-exchange"

    def trades_below(self, product_id: str, after: int | None, limit: int) -> Page:
        params = {"limit": limit} if after is None else {"limit": limit, "after": after}
        return self.get(f"products/{product_id}/trades", params, lambda answer: parse.rest_trades(answer.body))
