"""Coinbase's Advanced Trade public REST as ccxt asks it: products, candles, ticker, and the currency lists of v2.

Formats as in `recordings/coinbase/http_*.json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from simulator.candles import candles, spoilt
from simulator.config import RECORDINGS, Config
from simulator.market import SECOND_NS, Product
from simulator.rest import Policy
from simulator.tape import Tape, fixed, trimmed
from simulator.times import rfc3339_go
from simulator.venues.coinbase.rest import message
from simulator.world import World

PREFIX = "/coinbase/api"
MARKET = f"{PREFIX}/api/v3/brokerage/market"
MAX_CANDLES = 350
WIDTHS_S = {
    "ONE_MINUTE": 60,
    "FIVE_MINUTE": 300,
    "FIFTEEN_MINUTE": 900,
    "THIRTY_MINUTE": 1800,
    "ONE_HOUR": 3600,
    "TWO_HOUR": 7200,
    "SIX_HOUR": 21600,
    "ONE_DAY": 86400,
}


def policy(config: Config) -> Policy:
    return Policy(
        "coinbase",
        PREFIX,
        lambda: message(429, "Too many requests"),
        lambda request: "api",
        config.coinbase_rest_rate,
        config.coinbase_rest_burst,
    )


class CoinbaseApi:
    """HTTP handlers of the Advanced Trade REST API."""

    def __init__(self, world: World) -> None:
        self.world = world
        recorded = json.loads((RECORDINGS / "coinbase" / "http_products.json").read_text())
        self._example: dict[str, Any] = recorded["products"][0]

    def routes(self) -> Sequence[web.RouteDef]:
        return [
            web.get(f"{MARKET}/products", self.products),
            web.get(MARKET + "/products/{id}", self.product),
            web.get(MARKET + "/products/{id}/candles", self.candles),
            web.get(MARKET + "/products/{id}/ticker", self.ticker),
            web.get(f"{PREFIX}/v2/currencies", self.currencies),
            web.get(f"{PREFIX}/v2/currencies/crypto", self.crypto),
            web.get(f"{PREFIX}/v2/exchange-rates", self.rates),
        ]

    def _tape(self, request: web.Request) -> Tape:
        tape = self.world.tape("coinbase", request.match_info["id"])
        if tape is None:
            body = {"error": "NOT_FOUND", "error_details": "valid product_id is required", "message": "not found"}
            raise web.HTTPNotFound(text=json.dumps(body), content_type="application/json")
        return tape

    def _product(self, product: Product) -> dict[str, Any]:
        tape = self.world.tapes["coinbase", product.symbol]
        price = trimmed(tape.last_price(self.world.now_ns()), product.price_decimals)
        increment = fixed(1, product.price_decimals)
        return self._example | {
            "product_id": product.symbol,
            "price": price,
            "quote_increment": increment,
            "price_increment": increment,
            "base_increment": fixed(1, product.quantity_decimals),
            "base_name": product.base,
            "quote_name": product.quote,
            "quote_currency_id": product.quote,
            "base_currency_id": product.base,
            "base_display_symbol": product.base,
            "quote_display_symbol": product.quote,
            "alias_to": [],
            "display_name": product.symbol,
        }

    async def products(self, request: web.Request) -> web.Response:
        spot = request.query.get("product_type", "SPOT") == "SPOT"
        rows = [self._product(product) for product in self.world.products("coinbase")] if spot else []
        return web.json_response({"products": rows, "num_products": len(rows), "pagination": None})

    async def product(self, request: web.Request) -> web.Response:
        return web.json_response(self._product(self._tape(request).product))

    async def candles(self, request: web.Request) -> web.Response:
        """Return at most 350 candles, newest first, both ends included."""
        tape, query = self._tape(request), request.query
        until_ns = self.world.visible_until_ns("coinbase", tape.product.symbol)
        width_s = WIDTHS_S.get(query.get("granularity", ""))
        try:
            start_s, end_s = int(query["start"]), int(query["end"])
        except (KeyError, ValueError):
            return message(400, "start and end are required")
        if width_s is None:
            return message(400, "granularity is invalid")
        if (end_s - start_s) // width_s > MAX_CANDLES:
            return message(400, "number of candles requested should be less than 350")
        product = tape.product
        made = self.world.shown(tape, candles(tape, start_s, end_s + 1, width_s, until_ns), width_s)
        rows = [
            {
                "start": str(candle.start_s),
                **{
                    name: trimmed(getattr(candle, name), product.price_decimals)
                    for name in ("low", "high", "open", "close")
                },
                "volume": trimmed(candle.volume, product.quantity_decimals),
            }
            for candle in reversed(made)
        ]
        rows = spoilt(self.world.faults, product, rows, width_s, "start", "close", "volume")
        return web.json_response({"candles": rows[: int(query.get("limit", MAX_CANDLES))]})

    async def ticker(self, request: web.Request) -> web.Response:
        """Return the latest trades, newest first, with the maker's side."""
        tape = self._tape(request)
        product, until_ns = tape.product, self.world.visible_until_ns("coinbase", tape.product.symbol)
        last = tape.last_id_at(until_ns)
        limit = int(request.query.get("limit", 100))
        rows = [
            {
                "trade_id": str(row.trade_id),
                "product_id": product.symbol,
                "price": trimmed(row.price, product.price_decimals),
                "size": trimmed(row.quantity, product.quantity_decimals),
                "time": rfc3339_go(row.ts_ns),
                "side": "SELL" if row.buy else "BUY",
                "bid": "",
                "ask": "",
                "exchange": "coinbase",
            }
            for row in reversed(tape.trades(last - limit + 1, last).rows())
        ]
        bid, ask = (trimmed(price, product.price_decimals) for price in tape.bid_ask(until_ns))
        return web.json_response({"trades": rows, "best_bid": bid, "best_ask": ask})

    async def currencies(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "USD", "name": "US Dollar", "min_size": "0.01"}]})

    async def crypto(self, request: web.Request) -> web.Response:
        bases = sorted({product.base for product in self.world.products("coinbase")} | {"USDT"})
        rows = [
            {"asset_id": code.lower(), "code": code, "name": code, "type": "crypto", "exponent": 8} for code in bases
        ]
        return web.json_response({"data": rows})

    async def rates(self, request: web.Request) -> web.Response:
        now_ns = self.world.now_ns() // SECOND_NS * SECOND_NS
        rates = {"USD": "1.0", "USDT": "1.0"}
        for product in self.world.products("coinbase"):
            if product.quote == "USD":
                tape = self.world.tapes["coinbase", product.symbol]
                rates[product.base] = str(10**product.price_decimals / tape.bid_ask(now_ns)[0])
        return web.json_response({"data": {"currency": "USD", "rates": rates}})
