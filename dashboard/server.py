"""The page and its JSON interface, on the loopback only. Read-only: nothing here changes anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from consumers import dead_letters
from dashboard import assets, market
from dashboard.calendar import Calendar
from dashboard.feed import Feeds
from dashboard.frames import FRAMES, frame_of
from dashboard.store import Store
from dashboard.stream import ChartStream
from pipeline import demo, state
from pipeline.bus import new_client
from pipeline.errors import PipelineError, WrongUse
from pipeline.ledger import to_us
from pipeline.settings import DatabaseSettings, PulsarSettings, load

STATIC = Path(__file__).parent / "static"
# Nothing is loaded from elsewhere; styles inside of elements are the chart library's.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_HOSTS = ("127.0.0.1", "localhost", "[::1]")
# Several open pages ask the programs once.
STATE_KEPT_S = 2.0
LETTERS_SHOWN = 100
PROBE_EVERY_S = 3.0
ANSWER_WITHIN_S = 10.0
_LATEST_S = 7_258_118_400  # 2200-01-01: beyond that Python's times end sooner than an integer does

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Headers, errors as JSON; a foreign name for this address (a page that points its own name here) is refused."""
    if request.host.rsplit(":", 1)[0] not in _HOSTS and request.host not in _HOSTS:
        return web.json_response({"error": "open this page as 127.0.0.1 or localhost"}, status=403)
    try:
        response = await handler(request)
    except WrongUse as error:
        response = web.json_response({"error": str(error)}, status=400)
    except PipelineError as error:
        response = web.json_response({"error": str(error)}, status=503)
    if not response.prepared:
        response.headers.update(_HEADERS)
    return response


def answer(data: Any) -> web.Response:
    return web.Response(body=orjson.dumps(data, default=str), content_type="application/json")


class Dashboard:
    """What the handlers share. `app` is the aiohttp application."""

    def __init__(self) -> None:
        self._pulsar = load(PulsarSettings)
        self.store = Store(load(DatabaseSettings))
        self.feeds = Feeds(self._pulsar)
        self._client = new_client(self._pulsar)
        self._calendar = Calendar(self.store)
        self._database: tuple[str | None, float] = None, time.monotonic()
        self.ended_well = True
        self._asking = asyncio.Lock()
        self._state: tuple[float, state.State] | None = None
        self._streams: set[asyncio.Task[Any]] = set()
        self.app = web.Application(middlewares=[guard])
        self.app.add_routes([
            web.get("/", self._index),
            web.get("/api/about", self._about),
            web.get("/api/instruments", self._instruments),
            web.get("/api/candles", self._candles),
            web.get("/api/gaps", self._gaps),
            web.get("/api/stream", self._stream),
            web.get("/api/days", self._days),
            web.get("/api/state", self._state_of),
            web.get("/api/dead-letters", self._dead_letters),
            web.static("/static", STATIC),
        ])  # fmt: skip
        if assets.installed():
            self.app.router.add_static("/vendor", assets.FOLDER)
        self.app.cleanup_ctx.append(self._watch)
        self.app.on_shutdown.append(self._end)

    async def _end(self, _app: web.Application) -> None:
        for task in self._streams:
            task.cancel()
        self.ended_well = await asyncio.to_thread(self.feeds.close)
        await asyncio.to_thread(self._client.close)
        self.store.close()

    async def _index(self, _request: web.Request) -> web.StreamResponse:
        return web.FileResponse(STATIC / "index.html")

    async def _about(self, _request: web.Request) -> web.Response:
        return answer({"demo": demo.active(), "frames": list(FRAMES), "library": assets.installed()})

    async def _instruments(self, _request: web.Request) -> web.Response:
        return answer([asdict(one) for one in await market.instruments(self.store)])

    async def _one(self, request: web.Request) -> market.Instrument:
        venue, product = request.query.get("venue", ""), request.query.get("product", "")
        one = await market.instrument(self.store, venue, product)
        if one is None:
            raise WrongUse(f"nothing is stored of {venue} {product}")
        return one

    async def _candles(self, request: web.Request) -> web.Response:
        """`before` and `limit`, or `from` and `to`; seconds since 1970."""
        one, frame = await self._one(request), frame_of(request.query.get("frame", "1m"))
        if "from" in request.query:
            span = _whole(request, "from") * 1_000_000, _whole(request, "to") * 1_000_000
            rows = await market.candles_between(
                self.store, one.venue, one.product_id, frame, frame.bucket_us(span[0]), span[1]
            )
            return answer({"candles": rows})
        before = _whole(request, "before") * 1_000_000 if "before" in request.query else None
        limit = min(market.MOST_CANDLES, _whole(request, "limit", 500))
        rows, more = await market.candles_before(self.store, one, frame, before, limit)
        return answer({"candles": rows, "more": more})

    async def _gaps(self, request: web.Request) -> web.Response:
        one = await self._one(request)
        span = _whole(request, "from") * 1_000_000, _whole(request, "to") * 1_000_000
        return answer([found.json() for found in await market.gaps(self.store, one, *span)])

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        one, frame = await self._one(request), frame_of(request.query.get("frame", "1m"))
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            await ChartStream(self.store, self.feeds, one, frame).run(response)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the browser went away, or we end
        finally:
            self._streams.discard(task)
        return response

    async def _days(self, request: web.Request) -> web.Response:
        one = await self._one(request)
        try:
            end = date.fromisoformat(request.query["end"]) if "end" in request.query else None
        except ValueError:
            raise WrongUse("`end` is a day like 2026-11-21") from None
        return answer(await self._calendar.days(one, end))

    async def _state_of(self, _request: web.Request) -> web.Response:
        async with self._asking:
            if self._state is None or time.monotonic() - self._state[0] > STATE_KEPT_S:
                self._state = time.monotonic(), await asyncio.to_thread(state.collect)
        found = self._state[1].json()
        for one in found["instruments"]:
            for name in ("first_at", "last_at"):
                one[name] = None if one[name] is None else to_us(one[name]) // 1_000_000
        return answer(found)

    async def _dead_letters(self, _request: web.Request) -> web.Response:
        letters = await asyncio.to_thread(dead_letters.read, self._pulsar, self._client)
        shown = [one for one in reversed(letters) if not one.replayed][:LETTERS_SHOWN]
        rows = [{**asdict(one), "payload": one.content, "source": one.source} for one in shown]
        return answer({"total": len(letters), "letters": rows})

    async def _watch(self, _app: web.Application) -> AsyncIterator[None]:
        """Ask the database now and then, so that `/health` itself never waits for it: a database that is frozen must
        not make this process look frozen."""

        async def ask() -> None:
            while True:
                self._database = await asyncio.to_thread(self.store.probe), time.monotonic()
                await asyncio.sleep(PROBE_EVERY_S)

        task = asyncio.create_task(ask())
        yield
        task.cancel()

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Well while the database answers; the charts' topics are their own concern."""
        error, asked_s = self._database
        silent_s = time.monotonic() - asked_s
        if error is None and silent_s > PROBE_EVERY_S + ANSWER_WITHIN_S:
            error = f"no answer for {silent_s:.0f} s"
        why = [f"database: {error}"] if error else ["all well"]
        return error is None, {"why": why, "charts_open": len(self._streams)}


def _whole(request: web.Request, name: str, default: int | None = None) -> int:
    try:
        return min(max(int(request.query[name]), 0), _LATEST_S)
    except KeyError:
        if default is not None:
            return default
        raise WrongUse(f"`{name}` is missing") from None
    except ValueError:
        raise WrongUse(f"`{name}` is a whole number") from None
