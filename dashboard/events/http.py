"""`/api/events` as server-sent events, `/api/socket` as WebSocket: the same events, resumed by the same position.

Both take `venue`, `product`, `kinds` (a comma list as in `pipeline.stream`) and `after`; an `EventSource` that
reconnects by itself sends the last id in a header, which counts before `after`.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

import orjson
from aiohttp import web

from dashboard import parameters
from dashboard.events.client import ALIVE_S, TAKEN_WITHIN_S, Client
from dashboard.events.hub import Hubs
from dashboard.headers import HEADERS
from dashboard.queries import instrument
from dashboard.store import Store
from pipeline.core.errors import Unavailable, WrongUse
from pipeline.core.products import short
from pipeline.stream.instruments import Instrument
from pipeline.stream.position import Places, places_of
from pipeline.stream.program import KINDS

CLIENTS_MOST = 256
# An instrument read from the database is cached for this long.
KNOWN_S = 2.0
# Limit of a message from a client on a WebSocket; messages are ignored.
_HEARD_BYTES = 1_024


# What the system keeps for a client that does not read, beside aiohttp's own 64 kB.
_SENT_BYTES = 65_536


def _bound(request: web.Request) -> None:
    line = request.transport.get_extra_info("socket") if request.transport else None
    if line is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENT_BYTES)


class Events:
    """The two ways, and who is connected."""

    def __init__(self, store: Store, hubs: Hubs) -> None:
        self._store, self._hubs = store, hubs
        self._asked: dict[tuple[str, str], asyncio.Task[Instrument | None]] = {}
        self.tasks: set[asyncio.Task[Any]] = set()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/events", self._events, allow_head=False),
            web.get("/api/socket", self._socket, allow_head=False),
        ]

    async def _client(self, request: web.Request) -> Client:
        venue, product = parameters.venue_and_product(request)
        kinds = [one.strip() for one in request.query.get("kinds", "trades").split(",") if one.strip()]
        for kind in kinds:
            if kind not in KINDS:
                raise WrongUse(f"{short(kind)} is not a valid kind of event; choose from {', '.join(KINDS)}")
        if not kinds:
            raise WrongUse(f"`kinds` is empty; choose from {', '.join(KINDS)}")
        places: Places = places_of(request.headers.get("Last-Event-ID") or request.query.get("after"))
        one = await self._instrument(venue, product)
        if one is None:
            raise WrongUse(f"no data of {venue} {product} is stored")
        if one.kind == "quotes":
            raise WrongUse(f"{venue} {product} has no live stream; use /api/candles")
        if len(self.tasks) >= CLIENTS_MOST:
            raise Unavailable(f"{CLIENTS_MOST} clients are connected; try again in a minute")
        return Client(self._hubs, venue, product, kinds, places)

    async def _instrument(self, venue: str, product: str) -> Instrument | None:
        """Asked of the database once for all who come at the same time, as they do after a restart."""
        key = venue, product
        if key not in self._asked:
            task = self._asked[key] = asyncio.create_task(instrument(self._store, venue, product))
            task.add_done_callback(lambda _: asyncio.get_running_loop().call_later(KNOWN_S, self._asked.pop, key))
        return await asyncio.shield(self._asked[key])

    async def _events(self, request: web.Request) -> web.StreamResponse:
        with await self._client(request) as client:
            response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
            _bound(request)
            task = asyncio.current_task()
            assert task is not None
            self.tasks.add(task)
            try:
                await response.prepare(request)
                await asyncio.wait_for(response.write(b": welcome\n\n"), TAKEN_WITHIN_S)
                async for piece in client.pieces():
                    text = b"".join(
                        b"id: %s\nevent: %s\ndata: %s\n\n" % (position.encode(), kind.encode(), body)
                        for kind, position, body in piece
                    )
                    await asyncio.wait_for(response.write(text or b": alive\n\n"), TAKEN_WITHIN_S)
            except Unavailable as error:
                with suppress(ConnectionError, TimeoutError):
                    text = b"event: error\ndata: %s\n\n" % orjson.dumps({"error": str(error)[:300]})
                    await asyncio.wait_for(response.write(text), 1.0)
            except (ConnectionError, TimeoutError, asyncio.CancelledError):
                pass  # it went away, takes nothing, or we end
            finally:
                self.tasks.discard(task)
                if isinstance(request.transport, asyncio.WriteTransport):
                    request.transport.abort()  # what is left to be sent nobody takes
            return response

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        with await self._client(request) as client:
            answer = web.WebSocketResponse(heartbeat=ALIVE_S, max_msg_size=_HEARD_BYTES, compress=False)
            _bound(request)
            task = asyncio.current_task()
            assert task is not None
            self.tasks.add(task)
            sending: asyncio.Task[None] | None = None
            try:
                await answer.prepare(request)
                sending = asyncio.create_task(self._send(answer, client))
                hearing = asyncio.create_task(self._hear(answer))
                done, rest = await asyncio.wait([sending, hearing], return_when=asyncio.FIRST_COMPLETED)
                for one in rest:
                    one.cancel()
                await asyncio.gather(*done, *rest, return_exceptions=True)
            except (ConnectionError, asyncio.CancelledError):
                if sending is not None:
                    sending.cancel()
            finally:
                self.tasks.discard(task)
                if isinstance(request.transport, asyncio.WriteTransport):
                    request.transport.abort()
            return answer

    async def _hear(self, answer: web.WebSocketResponse) -> None:
        """Wait until the client closes; its messages are ignored."""
        async for _ in answer:
            pass

    async def _send(self, answer: web.WebSocketResponse, client: Client) -> None:
        try:
            async for piece in client.pieces():
                for kind, position, body in piece:
                    head = orjson.dumps({"kind": kind, "position": position})
                    text = b'%s,"data":%s}' % (head[:-1], body)
                    await asyncio.wait_for(answer.send_str(text.decode()), TAKEN_WITHIN_S)
        except Unavailable as error:
            with suppress(ConnectionError, TimeoutError):
                await asyncio.wait_for(answer.send_json({"kind": "error", "error": str(error)[:300]}), 1.0)
                await asyncio.wait_for(answer.close(), 1.0)
        except (ConnectionError, TimeoutError):
            pass
