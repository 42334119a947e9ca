"""OANDA's pricing stream: `GET /v3/accounts/<account>/pricing/stream?instruments=EUR_USD,XAU_USD`, chunked lines.

    {"type":"PRICE","time":"2026-11-26T18:07:54.626190412Z","bids":[{"price":"1.08497","liquidity":10000000}],
     "asks":[{"price":"1.08499","liquidity":10000000}],"closeoutBid":"1.08497","closeoutAsk":"1.08499",
     "status":"tradeable","tradeable":true,"instrument":"EUR_USD"}
    {"type":"HEARTBEAT","time":"2026-11-26T18:07:55.000000000Z"}

First the prices in force, then at most one each 250 ms and instrument, and a heartbeat every 5 s. One instrument that
does not exist refuses the request.
"""

from __future__ import annotations

import json
from typing import Any, cast

from aiohttp import web

from simulator.market import SECOND_NS
from simulator.stream import Connection, FrameSource, StreamVenue
from simulator.tape import fixed
from simulator.times import rfc3339_ns
from simulator.venues.oanda.listing import ACCOUNT
from simulator.venues.oanda.rest import authorized, refused
from simulator.world import World

CHANNEL = "pricing"
PRICE_EVERY_NS, HEARTBEAT_EVERY_NS = SECOND_NS // 4, 5 * SECOND_NS
LIQUIDITY = 10_000_000


def price_line(source: FrameSource, now_ns: int) -> str:
    """The price at a time."""
    tape, product = source.tape, source.tape.product
    bid, ask = (fixed(price, product.price_decimals) for price in tape.bid_ask(now_ns))
    line = {
        "type": "PRICE",
        "time": rfc3339_ns(now_ns),
        "bids": [{"price": bid, "liquidity": LIQUIDITY}],
        "asks": [{"price": ask, "liquidity": LIQUIDITY}],
        "closeoutBid": bid,
        "closeoutAsk": ask,
        "status": "tradeable",
        "tradeable": True,
        "instrument": product.symbol,
    }
    return json.dumps(line, separators=(",", ":"))


class _Lines:
    """A chunked answer with the methods of a WebSocket that `simulator.stream.Connection` uses."""

    def __init__(self, response: web.StreamResponse, request: web.Request) -> None:
        self._response, self._request = response, request

    @property
    def closed(self) -> bool:
        return self._request.transport is None or self._request.transport.is_closing()

    async def send_str(self, text: str) -> None:
        await self._response.write(text.encode() + b"\n")


class OandaStream(StreamVenue):
    """The endpoint: 20 streams, 2 new ones a second."""

    venue = "oanda"
    connects_allowed = (2.0, 20.0)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._price_due_ns = self._heartbeat_due_ns = 0
        self._last: dict[tuple[Connection, str], tuple[int, int]] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        endpoint = self.world.stats.endpoint(self.venue, "stream")
        endpoint.count()
        if not self._connects.take():
            endpoint.refused += 1
            endpoint.violations += 1
            return refused(429, "Too many new connections")
        if self.world.faults.active(self.venue, "cut"):
            endpoint.refused += 1
            return web.Response(status=503, text="upstream connect error")
        if not authorized(request):
            return refused(401, "Insufficient authorization to perform request.")
        if request.match_info["rest"] != f"v3/accounts/{ACCOUNT}/pricing/stream":
            return refused(404, "The account does not exist.")
        names = [name for name in request.query.get("instruments", "").split(",") if name]
        if not names or any(self.world.tape(self.venue, name) is None for name in names):
            return refused(400, "Invalid value specified for 'instruments'")
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        connection = Connection(self.world, self.venue, cast(Any, _Lines(response, request)), request)
        # What is ignored is neither refused nor sent.
        connection.subscribed[CHANNEL] = {
            name: {} for name in names if not self.world.faults.active(self.venue, "ignore", name, CHANNEL)
        }
        self.connections.add(connection)
        self._prepare()
        now_ns = self.world.now_ns()
        for name in connection.subscribed[CHANNEL]:
            connection.send_data(price_line(self.sources[name], now_ns), CHANNEL, name, now_ns)
        try:
            await connection.pump()
        finally:
            self.connections.discard(connection)
            self._last = {key: quote for key, quote in self._last.items() if key[0] is not connection}
        return response

    def publish(self, now_ns: int) -> None:
        self.due(now_ns)  # its trades are nobody's
        if now_ns >= self._price_due_ns:
            self._price_due_ns = now_ns + PRICE_EVERY_NS
            self._send_prices(now_ns)
        if now_ns >= self._heartbeat_due_ns:
            self._heartbeat_due_ns = now_ns + HEARTBEAT_EVERY_NS
            for connection in list(self.connections):
                connection.send_heartbeat(f'{{"type":"HEARTBEAT","time":"{rfc3339_ns(now_ns)}"}}')

    def _send_prices(self, now_ns: int) -> None:
        for connection in list(self.connections):
            for name in connection.subscribed[CHANNEL]:
                quote = self.sources[name].tape.bid_ask(now_ns)
                if self._last.get((connection, name)) != quote:
                    self._last[connection, name] = quote
                    connection.send_data(price_line(self.sources[name], now_ns), CHANNEL, name, now_ns)
