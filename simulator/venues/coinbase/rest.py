"""Coinbase Exchange REST: products, trades by id cursor, ticker, candles, time. 10 requests a second, burst 15."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from simulator.candles import candles
from simulator.config import Config
from simulator.market import SECOND_NS, Product
from simulator.rest import Policy
from simulator.tape import Tape, Trade, fixed, trimmed
from simulator.times import rfc3339_go
from simulator.world import World

PREFIX = "/coinbase/exchange"
MAX_LIMIT = 1000
MAX_CANDLES = 300
GRANULARITIES = (60, 300, 900, 3600, 21600, 86400)


def message(status: int, text: str) -> web.Response:
    return web.json_response({"message": text}, status=status)


def policy(config: Config) -> Policy:
    return Policy(
        "coinbase",
        PREFIX,
        lambda: message(429, "Public rate limit exceeded"),
        rate=config.coinbase_rest_rate,
        burst=config.coinbase_rest_burst,
    )


def trade_json(product: Product, trade: Trade) -> dict[str, Any]:
    """Return a trade: `side` is the maker's, prices and sizes have eight decimals."""
    price = fixed(trade.price * 10 ** (8 - product.price_decimals), 8)
    return {
        "trade_id": trade.trade_id,
        "side": "sell" if trade.buy else "buy",
        "size": fixed(trade.quantity, product.quantity_decimals),
        "price": price,
        "time": rfc3339_go(trade.ts_ns),
    }


def moment_s(text: str) -> float:
    """Parse Unix seconds or an ISO time. Raises `ValueError` for anything else."""
    try:
        return float(text)
    except ValueError:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


class CoinbaseRest:
    """HTTP handlers of the REST API. A request without a User-Agent is refused."""

    def __init__(self, world: World) -> None:
        self.world = world

    def routes(self) -> Sequence[web.RouteDef]:
        return [
            web.get(f"{PREFIX}/products", self.products),
            web.get(PREFIX + "/products/{id}", self.product),
            web.get(PREFIX + "/products/{id}/trades", self.trades),
            web.get(PREFIX + "/products/{id}/ticker", self.ticker),
            web.get(PREFIX + "/products/{id}/candles", self.candles),
            web.get(f"{PREFIX}/time", self.time),
        ]

    def _tape(self, request: web.Request) -> Tape:
        if not request.headers.get("User-Agent"):
            raise web.HTTPBadRequest(
                text='{"message":"User-Agent header is required."}', content_type="application/json"
            )
        tape = self.world.tape("coinbase", request.match_info["id"])
        if tape is None:
            raise web.HTTPNotFound(text='{"message":"NotFound"}', content_type="application/json")
        return tape

    def _product_json(self, product: Product) -> dict[str, Any]:
        fault = self.world.faults.active("coinbase", "maintenance", product.symbol)
        status = str(fault.options.get("status", "offline")) if fault else "online"
        return {
            "id": product.symbol,
            "base_currency": product.base,
            "quote_currency": product.quote,
            "quote_increment": fixed(1, product.price_decimals),
            "base_increment": fixed(1, product.quantity_decimals),
            "display_name": product.symbol,
            "min_market_funds": "1",
            "margin_enabled": False,
            "post_only": False,
            "limit_only": False,
            "cancel_only": False,
            "status": status,
            "status_message": "",
            "trading_disabled": fault is not None,
            "fx_stablecoin": False,
            "max_slippage_percentage": "0.02",
            "auction_mode": False,
            "high_bid_limit_percentage": "",
        }

    async def products(self, request: web.Request) -> web.Response:
        return web.json_response([self._product_json(product) for product in self.world.products("coinbase")])

    async def product(self, request: web.Request) -> web.Response:
        return web.json_response(self._product_json(self._tape(request).product))

    async def trades(self, request: web.Request) -> web.Response:
        """Return trades, newest first. `after=X`: older than X; `before=X`: the newest page of those newer than X."""
        tape = self._tape(request)
        newest = tape.last_id_at(self.world.visible_until_ns("coinbase", tape.product.symbol))
        try:
            limit = int(request.query.get("limit", MAX_LIMIT))
            last = min(newest, int(request.query["after"]) - 1) if "after" in request.query else newest
            floor = int(request.query.get("before", 0)) + 1
        except ValueError:
            return message(400, "invalid cursor")
        if not 1 <= limit <= MAX_LIMIT:
            return message(400, "limit must be between 1 and 1000")
        wanted = limit
        # A hole shortens what an id range holds, so look further back until the page is full.
        while True:
            first = max(floor, last - wanted + 1, 1)
            rows = tape.trades(first, last).rows()
            if len(rows) >= limit or first <= max(floor, 1):
                break
            wanted += limit
        rows = rows[-limit:][::-1]
        headers = {"CB-BEFORE": str(rows[0].trade_id), "CB-AFTER": str(rows[-1].trade_id)} if rows else {}
        return web.json_response([trade_json(tape.product, row) for row in rows], headers=headers)

    async def ticker(self, request: web.Request) -> web.Response:
        tape = self._tape(request)
        product, until_ns = tape.product, self.world.visible_until_ns("coinbase", tape.product.symbol)
        last = tape.last_id_at(until_ns)
        row = tape.trades(last - 100, last).rows()[-1]
        bid, ask = tape.bid_ask(until_ns)
        volume = int(product.rate * 86400 * product.typical_quantity * 10**product.quantity_decimals)
        fields = {
            "ask": trimmed(ask, product.price_decimals),
            "bid": trimmed(bid, product.price_decimals),
            "volume": fixed(volume, product.quantity_decimals),
            "trade_id": row.trade_id,
            "price": trimmed(row.price, product.price_decimals),
            "size": trimmed(row.quantity, product.quantity_decimals),
            "time": rfc3339_go(row.ts_ns),
            "rfq_volume": "0",
        }
        return web.json_response(fields)

    async def candles(self, request: web.Request) -> web.Response:
        """Return rows `[time, low, high, open, close, volume]`, newest first; buckets without trades are missing."""
        tape = self._tape(request)
        until_ns = self.world.visible_until_ns("coinbase", tape.product.symbol)
        now_s = until_ns // SECOND_NS
        try:
            width_s = max(1, int(request.query.get("granularity", 60)))
            end_s = int(moment_s(request.query["end"])) if "end" in request.query else now_s
            latest_s = (end_s // width_s - MAX_CANDLES + 1) * width_s
            start_s = int(moment_s(request.query["start"])) if "start" in request.query else latest_s
        except ValueError:
            return message(400, "Invalid start or end")
        if width_s not in GRANULARITIES:
            return message(400, "Unsupported granularity")
        if (end_s - start_s) // width_s > MAX_CANDLES:
            return message(
                400,
                "granularity too small for the requested time range. Count of aggregations requested exceeds 300",
            )
        product, rows = tape.product, []
        for candle in self.world.shown(tape, candles(tape, start_s, end_s + 1, width_s, until_ns), width_s)[::-1]:
            o, h, low, c = (trimmed(price, product.price_decimals) for price in candle[1:5])
            rows.append(f"[{candle.start_s},{low},{h},{o},{c},{trimmed(candle.volume, product.quantity_decimals)}]")
        return web.Response(text=f"[{','.join(rows)}]", content_type="application/json")

    async def time(self, request: web.Request) -> web.Response:
        now_ms = self.world.now_ns() // 1_000_000
        iso = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{now_ms % 1000:03d}Z"
        return web.Response(text=json.dumps({"iso": iso, "epoch": now_ms / 1000}), content_type="application/json")
