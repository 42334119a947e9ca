"""One process, one port: every venue under its own path, commands under /control, the tape under /truth."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import Any

from aiohttp import web

from simulator.config import Config
from simulator.faults import TAPE_KINDS, Fault, FaultError
from simulator.replay import replay
from simulator.rest import Gate
from simulator.stream import StreamVenue
from simulator.tape import fixed
from simulator.venues import listings, sites
from simulator.world import World

HOST = "127.0.0.1"
# Trades written at once: 20 ms of work, so that the streams are not held up by a long answer.
_PAGE = 4_000


class Control:
    """Commands and the truth. Errors answer 400 with `{"error": "..."}`."""

    def __init__(self, world: World, streams: dict[str, StreamVenue]) -> None:
        self.world, self.streams = world, streams

    def routes(self) -> Sequence[web.RouteDef]:
        return [
            web.post("/control/fault", self.fault),
            web.post("/control/clear", self.clear),
            web.get("/control/faults", self.faults),
            web.get("/control/stats", self.stats),
            web.post("/control/stats/reset", self.reset),
            web.get("/control/health", self.health),
            web.get("/truth/products", self.products),
            web.get("/truth/now", self.now),
            web.get("/truth/edits", self.edits),
            web.get("/truth/trades", self.trades),
            web.get("/truth/sent", self.sent),
        ]

    async def fault(self, request: web.Request) -> web.Response:
        """`{"kind":"cut","venue":"kraken","refuse_for":5}`; the kinds are listed in `simulator.faults`."""
        try:
            options = await request.json()
            kind, venue = str(options.pop("kind", "")), str(options.pop("venue", ""))
            done = self.strike(kind, venue, options)
        except (ValueError, TypeError, AttributeError) as error:
            return web.json_response({"error": f"A fault is a JSON object with kind and venue ({error})."}, status=400)
        except FaultError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"fault": kind, "venue": venue, "done": done})

    def strike(self, kind: str, venue: str, options: dict[str, Any]) -> list[dict[str, Any]]:
        if kind == "cut":
            options.setdefault("seconds", float(options.get("refuse_for", 0.0)))
        for name in options.get("products") or []:
            if (venue, name) not in self.world.tapes and venue != "dukascopy":
                options["products"] = [self.world.find(venue, n).product.symbol for n in options["products"]]
                break
        fault: Fault = self.world.faults.add(kind, venue, options)
        if kind == "cut" and venue in self.streams:
            self.streams[venue].cut()
        return self.world.change_tape(fault) if kind in TAPE_KINDS else []

    async def clear(self, request: web.Request) -> web.Response:
        self.world.faults.clear()
        self.world.muted.clear()
        return web.json_response({"faults": []})

    async def faults(self, request: web.Request) -> web.Response:
        return web.json_response({"faults": self.world.faults.as_json(), "struck": self.world.faults.struck})

    async def stats(self, request: web.Request) -> web.Response:
        connections = {venue: len(stream.connections) for venue, stream in self.streams.items()}
        return web.json_response(self.world.stats.as_json() | {"connections": connections})

    async def reset(self, request: web.Request) -> web.Response:
        self.world.stats.reset()
        return web.json_response({})

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "now_ns": self.world.now_ns()})

    # -- the truth ----------------------------------------------------------------------------------------------------

    async def products(self, request: web.Request) -> web.Response:
        rows = [asdict(t.product) | {"canonical": t.product.canonical} for t in self.world.tapes.values()]
        return web.json_response({"seed": self.world.config.seed, "products": rows})

    async def now(self, request: web.Request) -> web.Response:
        now_ns = self.world.published_until_ns()
        rows = [
            {"venue": venue, "product": symbol, "canonical": tape.product.canonical, "last_id": tape.last_id_at(now_ns)}
            for (venue, symbol), tape in self.world.tapes.items()
        ]
        return web.json_response({"now_ns": now_ns, "products": rows})

    async def edits(self, request: web.Request) -> web.Response:
        return web.json_response({"offset_ns": self.world.offset_ns, "edits": self.world.edits()})

    async def sent(self, request: web.Request) -> web.Response:
        """What was sent on connections and cannot be requested again: venue, product, ns on the tape's clock."""
        return web.json_response({"sent": list(self.world.sent)})

    async def trades(self, request: web.Request) -> web.StreamResponse:
        """Return the existing trades with from_id <= id <= to_id as NDJSON, without those not published yet."""
        try:
            query = request.query
            tape = self.world.find(query.get("venue", ""), query.get("product", ""))
            newest = tape.last_id_at(self.world.published_until_ns())
            first, last = int(query.get("from_id", 1)), min(newest, int(query.get("to_id", newest)))
        except (FaultError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        product = tape.product
        for start in range(first, last + 1, _PAGE):
            rows = tape.trades(start, min(last, start + _PAGE - 1)).rows()
            lines = (
                {
                    "id": row.trade_id,
                    "ts_ns": row.ts_ns,
                    "price": fixed(row.price, product.price_decimals),
                    "quantity": fixed(row.quantity, product.quantity_decimals),
                    "taker_side": "buy" if row.buy else "sell",
                }
                for row in rows
            )
            await response.write("".join(json.dumps(line) + "\n" for line in lines).encode())
        return response


def build(config: Config) -> tuple[web.Application, World]:
    """The application with all venues, not yet listening."""
    world = World(config)
    streams = {name: site.stream(world) for name, site in sites().items() if site.stream is not None}
    policies = [policy for site in sites().values() for policy in site.policies(config)]
    app = web.Application(middlewares=[Gate(world, policies).middleware()])
    for part in (*(part for site in sites().values() for part in site.parts(world)), Control(world, streams)):
        app.add_routes(part.routes())
    app.router.add_get("/replay/{venue}", replay)
    for name, stream in streams.items():
        for path in listings()[name].sockets.values():
            app.router.add_get(path, stream.handle)
        for path in listings()[name].lines.values():
            app.router.add_get(path + "/{rest:.*}", stream.handle)

    async def publishing(_: web.Application) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(stream.run(config.tick_ms / 1000.0)) for stream in streams.values()]
        yield
        for task in tasks:
            task.cancel()

    app.cleanup_ctx.append(publishing)
    return app, world


async def serve(config: Config) -> None:
    """Listen until SIGTERM or SIGINT; the first line on stdout is the address."""
    app, _ = build(config)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, HOST, config.port)
    await site.start()
    port = runner.addresses[0][1]
    print(f"simulator listening on http://{HOST}:{port}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    parent = os.getppid()
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 1.0)
        if config.exit_with_parent and os.getppid() != parent:
            stop.set()
    await runner.cleanup()
