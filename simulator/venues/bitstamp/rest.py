"""Bitstamp's REST: `transactions` of the last minute, hour or day, `ticker`.

    [{"amount":"0.00280000","date":"1643643584","price":"38416","tid":"212337562","type":"0"}]

Newest first, times in whole seconds. A pair that does not exist is a 404.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from aiohttp import web

from simulator.market import SECOND_NS
from simulator.rest import Policy
from simulator.tape import Tape, fixed
from simulator.world import World

PREFIX = "/bitstamp"
REACHES_S = {"minute": 60, "hour": 3600, "day": 86_400}


def policy() -> Policy:
    """Allow 10,000 requests in 10 minutes."""

    def refusal() -> web.Response:
        return web.json_response({"reason": "Rate limit exceeded", "status": "error", "code": "400.002"}, status=429)

    return Policy("bitstamp", PREFIX, refusal, rate=16.6, burst=400.0)


class BitstampRest:
    """HTTP handlers of the REST API."""

    def __init__(self, world: World) -> None:
        self.world = world

    def routes(self) -> Sequence[web.RouteDef]:
        return [
            web.get(f"{PREFIX}/api/v2/transactions/{{pair}}/", self.transactions),
            web.get(f"{PREFIX}/api/v2/ticker/{{pair}}/", self.ticker),
        ]

    def _tape(self, request: web.Request) -> Tape:
        tape = self.world.tape("bitstamp", request.match_info["pair"].upper())
        if tape is None:
            raise web.HTTPNotFound(text='{"code":"404.002","reason":"Currency pair not found","status":"error"}')
        return tape

    async def transactions(self, request: web.Request) -> web.Response:
        tape, product = (made := self._tape(request)), made.product
        reach_s = REACHES_S.get(request.query.get("time", "hour"))
        if reach_s is None:
            return web.json_response({"status": "error", "reason": "Invalid time interval."}, status=400)
        until_ns = self.world.visible_until_ns("bitstamp", product.symbol)
        first = tape.last_id_at(self.world.now_ns() - reach_s * SECOND_NS) + 1
        elements = [
            {
                "amount": fixed(row.quantity, product.quantity_decimals),
                "date": str(row.ts_ns // SECOND_NS),
                "price": fixed(row.price, product.price_decimals),
                "tid": str(self.world.trade_id(product, row.trade_id)),
                "type": "0" if row.buy else "1",
            }
            for row in reversed(tape.trades(first, tape.last_id_at(until_ns)).rows())
        ]
        return web.Response(text=json.dumps(elements, separators=(",", ":")), content_type="application/json")

    async def ticker(self, request: web.Request) -> web.Response:
        tape, product = (made := self._tape(request)), made.product
        now_ns = self.world.now_ns()
        bid, ask = (fixed(price, product.price_decimals) for price in tape.bid_ask(now_ns))
        return web.json_response({"timestamp": str(now_ns // SECOND_NS), "bid": bid, "ask": ask})
