"""OANDA's REST, as far as it is used: the accounts of a token, an account's instruments, candles of an instrument.

{"instrument":"EUR_USD","granularity":"M1","candles":[{"complete":true,"volume":481,
 "time":"2026-11-26T18:07:00.000000000Z","mid":{"o":"1.08497","h":"1.08499","l":"1.08495","c":"1.08496"}},...]}
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from simulator.candles import Candle, candles, spoilt
from simulator.market import SECOND_NS
from simulator.rest import Policy
from simulator.tape import Tape, fixed
from simulator.times import rfc3339_ns
from simulator.venues.oanda.listing import ACCOUNT, TOKEN
from simulator.world import World

PREFIX = "/oanda/rest"
MAX_COUNT = 5000
WIDTHS_S = {
    **{f"M{minutes}": 60 * minutes for minutes in (1, 2, 4, 5, 10, 15, 30)},
    **{f"H{hours}": 3600 * hours for hours in (1, 2, 3, 4, 6, 8, 12)},
    "D": 86_400,
}


def refused(status: int, text: str) -> web.Response:
    return web.json_response({"errorMessage": text}, status=status)


def authorized(request: web.Request) -> bool:
    return request.headers.get("Authorization") == f"Bearer {TOKEN}"


def policy() -> Policy:
    """120 requests a second."""
    return Policy("oanda", PREFIX, lambda: refused(429, "Too many requests"), rate=120.0, burst=120.0)


class OandaRest:
    """The handlers."""

    def __init__(self, world: World) -> None:
        self.world = world

    def routes(self) -> Sequence[web.RouteDef]:
        return [
            web.get(f"{PREFIX}/v3/accounts", self.accounts),
            web.get(PREFIX + "/v3/accounts/{account}/instruments", self.instruments),
            web.get(PREFIX + "/v3/instruments/{instrument}/candles", self.candles),
        ]

    async def accounts(self, request: web.Request) -> web.Response:
        if not authorized(request):
            return refused(401, "Insufficient authorization to perform request.")
        return web.json_response({"accounts": [{"id": ACCOUNT, "tags": []}]})

    async def instruments(self, request: web.Request) -> web.Response:
        if not authorized(request):
            return refused(401, "Insufficient authorization to perform request.")
        if request.match_info["account"] != ACCOUNT:
            return refused(403, "The provided request was forbidden.")
        listed = [
            {
                "name": product.symbol,
                "type": "METAL" if product.base.startswith("X") else "CURRENCY",
                "displayName": product.symbol.replace("_", "/"),
                "displayPrecision": product.price_decimals,
            }
            for product in self.world.products("oanda")
        ]
        return web.json_response({"instruments": listed, "lastTransactionID": "1"})

    async def candles(self, request: web.Request) -> web.Response:
        """Oldest first: the first `count` from a time on, however far they reach, with the running one."""
        if not authorized(request):
            return refused(401, "Insufficient authorization to perform request.")
        query, tape = request.query, self.world.tape("oanda", request.match_info["instrument"])
        if tape is None:
            return refused(400, "Invalid value specified for 'instrument'")
        width_s = WIDTHS_S.get(query.get("granularity", ""))
        if width_s is None or query.get("price", "M") != "M":
            return refused(400, f"Invalid value specified for '{'price' if width_s else 'granularity'}'")
        until_ns = self.world.visible_until_ns("oanda", tape.product.symbol)
        try:
            count = int(query.get("count", 500))
            from_s = int(datetime.fromisoformat(query["from"]).timestamp())
        except (KeyError, ValueError):
            return refused(400, "Invalid value specified for 'from'")
        if count > MAX_COUNT:
            return refused(400, "Maximum value for 'count' exceeded")
        if from_s * SECOND_NS > self.world.now_ns():
            return refused(400, "Invalid value specified for 'from'. Time is in the future")
        made: list[Candle] = []
        while len(made) < count and from_s * SECOND_NS <= until_ns:
            made += candles(tape, from_s, from_s + count * width_s, width_s, until_ns)
            from_s += count * width_s
        # Its volume counts prices.
        made = [candle._replace(volume=candle.trades) for candle in made[:count]]
        rows = [self._row(tape, candle) for candle in self.world.shown(tape, made, width_s)]
        rows = spoilt(self.world.faults, tape.product, rows, width_s, "time", "c", "volume")
        return web.json_response(
            {
                "instrument": tape.product.symbol,
                "granularity": query["granularity"],
                "candles": [self._candle(row, width_s, until_ns) for row in rows],
            }
        )

    def _row(self, tape: Tape, candle: Candle) -> dict[str, Any]:
        o, h, low, c = (fixed(price, tape.product.price_decimals) for price in candle[1:5])
        return {"time": candle.start_s, "o": o, "h": h, "l": low, "c": c, "volume": candle.volume}

    def _candle(self, row: dict[str, Any], width_s: int, until_ns: int) -> dict[str, Any]:
        return {
            "complete": (row["time"] + width_s) * SECOND_NS <= until_ns,
            "volume": row["volume"],
            "time": rfc3339_ns(row["time"] * SECOND_NS),
            "mid": {name: row[name] for name in "ohlc"},
        }
