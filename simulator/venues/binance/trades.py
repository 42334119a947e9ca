"""Binance's trades by REST: `trades`, `historicalTrades`, `aggTrades`.

    [{"id":28457,"price":"4.00000100","qty":"12.00000000","quoteQty":"48.000012","time":1499865549590,
      "isBuyerMaker":true,"isBestMatch":true}]
    [{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27781,"T":1498793709153,"m":true,"M":true}]

`X-MBX-TIME-UNIT: MICROSECOND` gives times in microseconds. Aggregates are the trades of one order at one price; their
ids are those of their first trades here, which are as unique.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from aiohttp import web

from simulator.tape import Tape, Trade, fixed
from simulator.venues.binance.rest import MAX_LIMIT, PREFIX, error
from simulator.world import World

NS_OF_MS, NS_OF_US = 1_000_000, 1_000
MICROSECONDS_FROM = 10**14  # smaller numbers in a request are milliseconds
WEIGHTS = {"trades": 25, "historicalTrades": 25, "aggTrades": 4}


def price_and_sizes(tape: Tape, trade: Trade) -> tuple[str, str, str]:
    """Return price, quantity and quote quantity, each with eight decimals as the venue writes them."""
    product = tape.product
    price = trade.price * 10 ** (8 - product.price_decimals)
    quantity = trade.quantity * 10 ** (8 - product.quantity_decimals)
    return fixed(price, 8), fixed(quantity, 8), fixed(price * quantity // 10**8, 8)


def last_ids(tape: Tape, first: int, newest: int, count: int) -> list[Trade]:
    """Return up to `count` trades from id `first` on, reading past holes."""
    wanted = count
    while len(found := tape.trades(first, min(newest, first + wanted - 1))) < count and first + wanted <= newest:
        wanted += count
    return found.rows()[:count]


class BinanceTrades:
    """HTTP handlers of the trades."""

    def __init__(self, world: World) -> None:
        self.world = world

    def routes(self) -> Sequence[web.RouteDef]:
        return [
            web.get(f"{PREFIX}/api/v3/trades", self.trades),
            web.get(f"{PREFIX}/api/v3/historicalTrades", self.trades),
            web.get(f"{PREFIX}/api/v3/aggTrades", self.aggregates),
        ]

    def _answer(self, request: web.Request, elements: list[dict[str, Any]]) -> web.Response:
        # The weight of the running minute is not counted here: the limit of `simulator.rest` is.
        headers = {"X-MBX-USED-WEIGHT-1M": str(WEIGHTS[request.path.rsplit("/", 1)[-1]])}
        text = json.dumps(elements, separators=(",", ":"))
        return web.Response(text=text, content_type="application/json", headers=headers)

    def _time(self, request: web.Request, ts_ns: int) -> int:
        unit = request.headers.get("X-MBX-TIME-UNIT", "MILLISECOND").upper()
        return ts_ns // (NS_OF_US if unit == "MICROSECOND" else NS_OF_MS)

    async def trades(self, request: web.Request) -> web.Response:
        """Return the newest trades; `historicalTrades` also those from an id on."""
        query, historical = request.query, request.path.endswith("historicalTrades")
        if historical and self.world.config.binance_key_wanted and "X-MBX-APIKEY" not in request.headers:
            return error(-2014, "API-key format invalid.", 401)
        tape = self.world.tape("binance", query.get("symbol", ""))
        if tape is None:
            return error(-1121, "Invalid symbol.")
        try:
            limit = int(query.get("limit", 500))
            newest = tape.last_id_at(self.world.visible_until_ns("binance", tape.product.symbol))
            from_id = int(query["fromId"]) if historical and "fromId" in query else newest - limit + 1
        except ValueError:
            return error(-1100, "Illegal characters found in a parameter.")
        if not 1 <= limit <= MAX_LIMIT:
            return error(-1130, "Data sent for parameter 'limit' is not valid.")
        elements = []
        for trade in last_ids(tape, max(1, from_id), newest, limit):
            price, quantity, paid = price_and_sizes(tape, trade)
            elements.append(
                {
                    "id": trade.trade_id,
                    "price": price,
                    "qty": quantity,
                    "quoteQty": paid,
                    "time": self._time(request, trade.ts_ns),
                    "isBuyerMaker": not trade.buy,
                    "isBestMatch": True,
                }
            )
        return self._answer(request, elements)

    async def aggregates(self, request: web.Request) -> web.Response:
        """Return aggregate trades from `startTime` on, or the newest."""
        query = request.query
        tape = self.world.tape("binance", query.get("symbol", ""))
        if tape is None:
            return error(-1121, "Invalid symbol.")
        try:
            limit = min(MAX_LIMIT, int(query.get("limit", 500)))
            newest = tape.last_id_at(self.world.visible_until_ns("binance", tape.product.symbol))
            first = newest - limit + 1
            if "startTime" in query:
                start = int(query["startTime"])
                start_ns = start * (NS_OF_US if start >= MICROSECONDS_FROM else NS_OF_MS)
                first = tape.last_id_at(start_ns - 1) + 1
        except ValueError:
            return error(-1100, "Illegal characters found in a parameter.")
        trades = last_ids(tape, max(1, first), newest, 5 * limit)
        groups = [list(group) for _, group in groupby(trades, lambda trade: (trade.order, trade.price))]
        elements = []
        for group in groups[:limit]:
            total = sum(trade.quantity for trade in group)
            price, quantity, _ = price_and_sizes(tape, group[0]._replace(quantity=total))
            elements.append(
                {
                    "a": group[0].trade_id,
                    "p": price,
                    "q": quantity,
                    "f": group[0].trade_id,
                    "l": group[-1].trade_id,
                    "T": self._time(request, group[0].ts_ns),
                    "m": not group[0].buy,
                    "M": True,
                }
            )
        return self._answer(request, elements)
