"""Kraken REST: Trades, OHLC, AssetPairs, Assets, SystemStatus, Time. HTTP 200 also for errors, as the venue does.

A row of Trades is ["105433.60000","0.00027625",1762795433.9717445,"b","l","",10218208]: the time is a float of the
tape's nanoseconds, the names are those of `recordings/kraken/rest_Trades_XBTUSDT.json`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from aiohttp import web

from simulator.candles import candles, spoilt
from simulator.config import RECORDINGS, Config
from simulator.market import SECOND_NS, Product
from simulator.rest import Policy
from simulator.tape import Tape, Trade, fixed
from simulator.world import World

PREFIX = "/kraken/0/public"
MAX_COUNT = 1000
_X_NAMES = {"XBT", "ETH", "LTC", "XRP", "XDG", "XLM", "XMR", "ETC", "ZEC", "REP", "MLN"}
_OTHER_NAMES = {"BTC": "XBT", "DOGE": "XDG"}


def names(product: Product) -> dict[str, str]:
    """Return the venue's spellings: BTC/USD is XXBTZUSD (canonical), XBTUSD (altname) and XBT/USD (wsname)."""
    base, quote = _OTHER_NAMES.get(product.base, product.base), product.quote
    long_base = f"X{base}" if base in _X_NAMES else base
    long_quote = f"Z{quote}" if quote in ("USD", "EUR", "GBP", "JPY", "CAD") else quote
    both_long = long_base != base and long_quote != quote and base != "XDG"
    canonical = long_base + long_quote if both_long else base + quote
    altname, wsname = base + quote, f"{base}/{quote}"
    return {"canonical": canonical, "altname": altname, "wsname": wsname, "base": long_base, "quote": long_quote}


def asset_class(product: Product) -> str:
    """Return the class: a tokenized stock has a small letter in its name (AAPLx) and is listed only on request."""
    return "tokenized_asset" if product.base != product.base.upper() else "currency"


def answer(result: dict[str, Any] | None = None, error: str | None = None) -> web.Response:
    body: dict[str, Any] = {"error": [error] if error else []}
    if result is not None:
        body["result"] = result
    return web.json_response(body, dumps=lambda value: json.dumps(value, separators=(",", ":")))


def _pair_of(request: web.Request) -> str:
    # Trades and OHLC count per address and pair, everything else per address.
    path = request.path.rsplit("/", 1)[-1]
    return f"{path} {request.query.get('pair', '')}" if path in ("Trades", "OHLC") else "other"


def policy(config: Config) -> Policy:
    return Policy(
        "kraken",
        PREFIX,
        lambda: answer(error="EAPI:Rate limit exceeded"),
        _pair_of,
        config.kraken_rest_rate,
        config.kraken_rest_burst,
        penalty_s=1.0,
    )


def since_ns(text: str) -> int:
    """Parse a cursor as the venue does: ns, or seconds if it is that small. Raises `ValueError` otherwise."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(text) from None
    return int(number * SECOND_NS) if number < 10**11 else int(number)


def trade_row(product: Product, trade: Trade) -> list[Any]:
    decimals = max(5, product.price_decimals)
    price = fixed(trade.price * 10 ** (decimals - product.price_decimals), decimals)
    return [
        price,
        fixed(trade.quantity, product.quantity_decimals),
        trade.ts_ns / 1e9,
        "b" if trade.buy else "s",
        "m" if trade.market else "l",
        "",
        trade.trade_id,
    ]


class KrakenRest:
    """HTTP handlers of the REST API."""

    def __init__(self, world: World) -> None:
        self.world = world
        recorded = json.loads((RECORDINGS / "kraken" / "rest_AssetPairs_one.json").read_text())
        self._pair_example: dict[str, Any] = next(iter(recorded["result"].values()))

    def routes(self) -> Sequence[web.RouteDef]:
        return [
            web.get(f"{PREFIX}/Trades", self.trades),
            web.get(f"{PREFIX}/OHLC", self.ohlc),
            web.get(f"{PREFIX}/AssetPairs", self.asset_pairs),
            web.get(f"{PREFIX}/Assets", self.assets),
            web.get(f"{PREFIX}/SystemStatus", self.system_status),
            web.get(f"{PREFIX}/Time", self.time),
        ]

    def _tape(self, pair: str, wanted: str | None = None) -> Tape | None:
        for product in self.world.products("kraken"):
            if asset_class(product) != (wanted or "currency"):
                continue
            spelled = names(product)
            if pair in (spelled["canonical"], spelled["altname"], spelled["wsname"], product.symbol):
                return self.world.tapes["kraken", product.symbol]
        return None

    async def trades(self, request: web.Request) -> web.Response:
        tape = self._tape(request.query.get("pair", ""), request.query.get("asset_class"))
        if tape is None:
            return answer(error="EQuery:Unknown asset pair")
        try:
            count = int(request.query.get("count", MAX_COUNT))
            since = since_ns(request.query["since"]) if "since" in request.query else None
        except ValueError:
            return answer(error="EGeneral:Invalid arguments")
        if not 1 <= count <= MAX_COUNT:
            return answer(error="EGeneral:Invalid arguments:count")
        newest = tape.last_id_at(self.world.visible_until_ns("kraken", tape.product.symbol))
        first = newest - count + 1 if since is None else tape.last_id_at(since) + 1
        # A hole shortens what an id range holds, so ask for more until the page is full.
        wanted = count
        while len(found := tape.trades(first, min(newest, first + wanted - 1))) < count and first + wanted <= newest:
            wanted += count
        rows = found.rows()[:count]
        last = str(rows[-1].ts_ns) if rows else str(since or 0)
        result = {names(tape.product)["canonical"]: [trade_row(tape.product, row) for row in rows], "last": last}
        return answer(result)

    async def ohlc(self, request: web.Request) -> web.Response:
        """Return at most the last 720 candles, whatever `since` says (unless `kraken_ohlc_history`), oldest first."""
        tape = self._tape(request.query.get("pair", ""), request.query.get("asset_class"))
        if tape is None:
            return answer(error="EQuery:Unknown asset pair")
        width_s = 60 * int(request.query.get("interval", 1))
        until_ns = self.world.visible_until_ns("kraken", tape.product.symbol)
        newest_s = until_ns // SECOND_NS // width_s * width_s
        since_s = int(float(request.query.get("since", 0)))
        start_s = max(newest_s - 719 * width_s, since_s)
        end_s = newest_s + width_s
        if self.world.config.kraken_ohlc_history and since_s:
            start_s, end_s = since_s, min(end_s, since_s + 720 * width_s)
        product, decimals = tape.product, max(1, tape.product.price_decimals)
        rows = []
        for candle in self.world.shown(tape, candles(tape, start_s, end_s, width_s, until_ns), width_s):
            o, h, low, c, vwap = (fixed(p, decimals) for p in (*candle[1:5], candle.vwap))
            volume = fixed(candle.volume, product.quantity_decimals)
            rows.append([candle.start_s, o, h, low, c, vwap, volume, candle.trades])
        rows = spoilt(self.world.faults, product, rows, width_s, 0, 4, 6)
        return answer({names(product)["canonical"]: rows, "last": newest_s - width_s})

    async def asset_pairs(self, request: web.Request) -> web.Response:
        asked = request.query.get("pair")
        wanted = request.query.get("aclass_base", "currency")
        tapes = [self._tape(name, wanted) for name in asked.split(",")] if asked else list(self.world.tapes.values())
        if None in tapes:
            return answer(error="EQuery:Unknown asset pair")
        result = {}
        for tape in tapes:
            if tape is not None and tape.product.venue == "kraken" and asset_class(tape.product) == wanted:
                product = tape.product
                spelled = names(product)
                result[spelled["canonical"]] = self._pair_example | {
                    "altname": spelled["altname"],
                    "wsname": spelled["wsname"],
                    "base": spelled["base"],
                    "quote": spelled["quote"],
                    "aclass_base": wanted,
                    "pair_decimals": product.price_decimals,
                    "tick_size": fixed(1, product.price_decimals),
                    "lot_decimals": product.quantity_decimals,
                }
        return answer(result)

    async def assets(self, request: web.Request) -> web.Response:
        result: dict[str, Any] = {}
        for product in self.world.products("kraken"):
            spelled = names(product)
            for key, alt in ((spelled["base"], spelled["wsname"].split("/")[0]), (spelled["quote"], product.quote)):
                result[key] = {"aclass": "currency", "altname": alt, "decimals": 10, "display_decimals": 5}
                result[key]["status"] = "enabled"
        return answer(result)

    async def system_status(self, request: web.Request) -> web.Response:
        fault = self.world.faults.active("kraken", "maintenance")
        status = str(fault.options.get("status", "maintenance")) if fault else "online"
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.world.now_ns() / 1e9))
        return answer({"status": status, "timestamp": stamp})

    async def time(self, request: web.Request) -> web.Response:
        now_s = self.world.now_ns() // SECOND_NS
        return answer({"unixtime": now_s, "rfc1123": time.strftime("%a, %d %b %y %H:%M:%S +0000", time.gmtime(now_s))})
