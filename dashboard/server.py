"""The page and its JSON API, on the loopback interface only. Read-only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import orjson
from aiohttp import web

from dashboard import parameters, queries
from dashboard.arrow import Arrow
from dashboard.calendar import Calendar
from dashboard.charts.feed import Feeds
from dashboard.charts.stream import ChartStream
from dashboard.events.http import Events
from dashboard.events.hub import Hubs
from dashboard.files import Files
from dashboard.headers import HEADERS, add_headers, guard
from dashboard.letters import Letters
from dashboard.overview import Overview
from dashboard.store import Store
from pipeline.broker.client import new_client
from pipeline.core.errors import Unavailable, WrongUse
from pipeline.core.settings import DatabaseSettings, PulsarSettings, load
from pipeline.core.timeframes import TIMEFRAMES, timeframe_of
from pipeline.services import charts_library, demo
from pipeline.stream.instruments import Instrument

PROBE_EVERY_S = 3.0
ANSWER_WITHIN_S = 10.0
# A browser opens 6 connections per address, so a page has one or two streams.
CHARTS_MOST = 32


def answer(data: Any) -> web.Response:
    return web.Response(body=orjson.dumps(data, default=str), content_type="application/json")


class Dashboard:
    """The handlers and their shared state. `app` is the aiohttp application."""

    def __init__(self) -> None:
        self._pulsar = load(PulsarSettings)
        self.store = Store(load(DatabaseSettings))
        self.feeds = Feeds(self._pulsar)
        self._client = new_client(self._pulsar)
        self._calendar = Calendar(self.store)
        self._overview, self._letters = Overview(), Letters(self._pulsar, self._client)
        self._database: tuple[str | None, float] = None, time.monotonic()
        self._streams: set[asyncio.Task[Any]] = set()
        self._hubs = Hubs(self._client)
        self._events = Events(self.store, self._hubs)
        files = Files()
        self.app = web.Application(middlewares=[guard])
        self.app.add_routes(
            [
                web.get("/", files.answer),
                web.get("/api/about", self._about),
                web.get("/api/instruments", self._instruments),
                web.get("/api/candles", self._candles),
                web.get("/api/gaps", self._gaps),
                web.get("/api/stream", self._stream, allow_head=False),
                *self._events.routes(),
                web.get("/api/arrow", Arrow().answer, allow_head=False),
                web.get("/api/consensus", self._consensus),
                web.get("/api/days", self._days),
                web.get("/api/state", self._state_of),
                web.get("/api/dead-letters", self._dead_letters),
                web.get("/static/{path:.*}", files.answer),
                web.get("/vendor/{path:.*}", files.answer),
            ]
        )
        self.app.cleanup_ctx.append(self._watch)
        self.app.on_response_prepare.append(add_headers)
        self.app.on_shutdown.append(self._end)

    async def _end(self, _app: web.Application) -> None:
        for task in self._streams | self._events.tasks:
            task.cancel()
        await asyncio.to_thread(self._hubs.close)
        await asyncio.to_thread(self.feeds.close)
        self._letters.close()
        self._overview.close()
        with suppress(Exception):  # already closed, or no broker
            await asyncio.to_thread(self._client.close)
        self.store.close()

    async def _about(self, _request: web.Request) -> web.Response:
        return answer({"demo": demo.active(), "frames": list(TIMEFRAMES), "library": charts_library.installed()})

    async def _instruments(self, _request: web.Request) -> web.Response:
        return answer([asdict(one) for one in await queries.instruments(self.store)])

    async def _requested(self, request: web.Request) -> Instrument:
        venue, product = parameters.venue_and_product(request)
        one = await queries.instrument(self.store, venue, product)
        if one is None:
            raise WrongUse(f"no data of {venue} {product} is stored")
        return one

    async def _candles(self, request: web.Request) -> web.Response:
        """Candles by `before` and `limit`, or by `from` and `to`, in seconds since 1970: the newest ones, and whether
        there are `more`."""
        timeframe = timeframe_of(request.query.get("frame", "1m")[:20])
        limit = parameters.number(request, "limit", 500, queries.MOST_CANDLES)
        first, before = 0, None
        if "from" in request.query:
            begin, before = parameters.span(request)
            first, limit = timeframe.bucket_us(begin), queries.MOST_CANDLES
        elif "before" in request.query:
            before = parameters.seconds(request, "before") * 1_000_000
        one = await self._requested(request)
        rows, more = await queries.candles_before(self.store, one, timeframe, before, limit, first)
        return answer({"candles": rows, "more": more})

    async def _consensus(self, request: web.Request) -> web.Response:
        """The consensus of a product over exchanges in `from` and `to`, as rows of candles: the newest ones, and
        whether there are `more`."""
        timeframe = timeframe_of(request.query.get("frame", "1m")[:20])
        begin, end = parameters.span(request)
        product = parameters.product(request)
        most = queries.MOST_CANDLES
        rows, more = await queries.consensus_between(self.store, product, timeframe, begin, end, most)
        return answer({"candles": rows, "more": more})

    async def _gaps(self, request: web.Request) -> web.Response:
        span = parameters.span(request)
        return answer([found.json() for found in await queries.gaps(self.store, await self._requested(request), *span)])

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        timeframe = timeframe_of(request.query.get("frame", "1m")[:20])
        one = await self._requested(request)
        if len(self._streams) >= CHARTS_MOST:
            raise Unavailable(f"{CHARTS_MOST} charts are open; close one")
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        try:
            await response.prepare(request)
            await ChartStream(self.store, self.feeds, one, timeframe).run(response)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the browser has disconnected, or we are stopping
        finally:
            self._streams.discard(task)
            if isinstance(request.transport, asyncio.WriteTransport):
                request.transport.abort()  # discard unsent data
        return response

    async def _days(self, request: web.Request) -> web.Response:
        end = parameters.day(request, "end")
        return answer(await self._calendar.days(await self._requested(request), end))

    async def _state_of(self, _request: web.Request) -> web.Response:
        return answer(await self._overview.now())

    async def _dead_letters(self, _request: web.Request) -> web.Response:
        return answer(await self._letters.newest())

    async def _watch(self, _app: web.Application) -> AsyncIterator[None]:
        """Probe the database periodically, so that `/health` never waits for it: a frozen database must not make this
        process look frozen."""

        async def ask() -> None:
            while True:
                self._database = await self.store.probe(), time.monotonic()
                await asyncio.sleep(PROBE_EVERY_S)

        task = asyncio.create_task(ask())
        yield
        task.cancel()

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Healthy while the database answers; the charts report problems of their topics themselves."""
        error, asked_s = self._database
        silent_s = time.monotonic() - asked_s
        if error is None and silent_s > PROBE_EVERY_S + ANSWER_WITHIN_S:
            error = f"no answer for {silent_s:.0f} s"
        why = [f"database: {error}"] if error else ["all well"]
        return error is None, {"why": why, "charts_open": len(self._streams), "clients": len(self._events.tasks)}
