"""Binance's public REST: exchangeInfo, klines, time; the derivatives' markets, which ccxt asks for, are empty."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from simulator.candles import candles, spoilt
from simulator.market import SECOND_NS, Product
from simulator.rest import Policy
from simulator.tape import fixed
from simulator.world import World

PREFIX = "/binance"
MAX_LIMIT = 1000
WIDTHS_S = {
    "1s": 1,
    "1m": 60,
    "3m": 180,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "1h": 3600,
    "2h": 7200,
    "4h": 14400,
    "6h": 21600,
    "8h": 28800,
    "12h": 43200,
    "1d": 86400,
}


def error(code: int, text: str, status: int = 400) -> web.Response:
    return web.json_response({"code": code, "msg": text}, status=status)


def policy() -> Policy:
    """Allow 1,200 requests a minute: what a weight of 6,000 gives for long answers."""
    refusal = "Too much request weight used; current limit is 6000 request weight per 1 MINUTE."
    return Policy("binance", PREFIX, lambda: error(-1003, refusal, 429), rate=20.0, burst=100.0)


class BinanceRest:
    """HTTP handlers of the REST API."""

    def __init__(self, world: World) -> None:
        self.world = world

    def routes(self) -> Sequence[web.RouteDef]:
        return [
            web.get(f"{PREFIX}/api/v3/exchangeInfo", self.exchange_info),
            web.get(f"{PREFIX}/fapi/v1/exchangeInfo", self.no_markets),
            web.get(f"{PREFIX}/dapi/v1/exchangeInfo", self.no_markets),
            web.get(f"{PREFIX}/api/v3/klines", self.klines),
            web.get(f"{PREFIX}/api/v3/time", self.time),
            web.get(f"{PREFIX}/api/v3/ping", self.ping),
        ]

    def _market(self, product: Product) -> dict[str, Any]:
        tick, step = fixed(1, product.price_decimals), fixed(1, product.quantity_decimals)
        return {
            "symbol": product.symbol,
            "status": "TRADING",
            "baseAsset": product.base,
            "baseAssetPrecision": 8,
            "quoteAsset": product.quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "orderTypes": ["LIMIT", "MARKET"],
            "icebergAllowed": True,
            "ocoAllowed": True,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "permissions": [],
            "permissionSets": [["SPOT"]],
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "10000000.00000000", "tickSize": tick},
                {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "900000.00000000", "stepSize": step},
                {"filterType": "NOTIONAL", "minNotional": "5.00000000", "maxNotional": "9000000.00000000"},
            ],
        }

    def _info(self, symbols: list[dict[str, Any]]) -> web.Response:
        now_ms = self.world.now_ns() // 1_000_000
        head: dict[str, Any] = {"timezone": "UTC", "serverTime": now_ms, "rateLimits": [], "exchangeFilters": []}
        return web.json_response(head | {"symbols": symbols})

    async def exchange_info(self, request: web.Request) -> web.Response:
        """Return all markets, or those named by `symbol` or `symbols`; one unknown name refuses the request."""
        query, markets = request.query, {p.symbol: self._market(p) for p in self.world.products("binance")}
        try:
            asked = (
                json.loads(query["symbols"]) if "symbols" in query else [query["symbol"]] if "symbol" in query else None
            )
        except ValueError:
            return error(-1100, "Illegal characters found in parameter 'symbols'.")
        if asked is None:
            return self._info(list(markets.values()))
        if not set(asked) <= markets.keys():
            return error(-1121, "Invalid symbol.")
        return self._info([markets[symbol] for symbol in asked])

    async def no_markets(self, request: web.Request) -> web.Response:
        return self._info([])

    async def klines(self, request: web.Request) -> web.Response:
        """Return candles, oldest first: with startTime the first `limit` from there, otherwise the latest."""
        query = request.query
        tape = self.world.tape("binance", query.get("symbol", ""))
        if tape is None:
            return error(-1121, "Invalid symbol.")
        width_s = WIDTHS_S.get(query.get("interval", ""))
        if width_s is None:
            return error(-1120, "Invalid interval.")
        until_ns = self.world.visible_until_ns("binance", tape.product.symbol)
        now_ms = until_ns // 1_000_000
        try:
            limit = min(MAX_LIMIT, int(query.get("limit", 500)))
            end_ms = min(now_ms, int(query.get("endTime", now_ms)))
            latest_ms = (end_ms // 1000 // width_s - limit + 1) * width_s * 1000
            start_ms = int(query.get("startTime", latest_ms))
        except ValueError:
            return error(-1100, "Illegal characters found in a parameter.")
        start_s = -(-start_ms // 1000)
        stop_s = min(end_ms // 1000 + 1, -(-start_s // width_s) * width_s + limit * width_s)
        product, rows = tape.product, []
        for candle in self.world.shown(tape, candles(tape, start_s, stop_s, width_s, until_ns), width_s):
            o, h, low, c = (fixed(price * 10 ** (8 - product.price_decimals), 8) for price in candle[1:5])
            paid = candle.vwap * candle.volume // 10**product.price_decimals
            volume, half = fixed(candle.volume, 8), fixed(candle.volume // 2, 8)
            rows.append(
                [
                    candle.start_s * 1000,
                    o,
                    h,
                    low,
                    c,
                    volume,
                    (candle.start_s + width_s) * 1000 - 1,
                    fixed(paid, 8),
                    candle.trades,
                    half,
                    fixed(paid // 2, 8),
                    "0",
                ]
            )
        return web.json_response(spoilt(self.world.faults, product, rows, width_s, 0, 4, 5))

    async def time(self, request: web.Request) -> web.Response:
        return web.json_response({"serverTime": self.world.now_ns() * 1000 // SECOND_NS})

    async def ping(self, request: web.Request) -> web.Response:
        return web.json_response({})
