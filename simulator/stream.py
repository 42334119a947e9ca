"""The live side shared by all streaming venues: connections, faults on frames, scheduling."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple

from aiohttp import WSMsgType, web

from simulator.limits import TokenBucket
from simulator.market import SECOND_NS
from simulator.tape import Tape, Trade
from simulator.world import World

# A client that lets this many frames pile up is disconnected, as venues do with slow readers.
MAX_QUEUED_FRAMES = 50_000


class _Frame(NamedTuple):
    """One on its way."""

    text: str
    product: str | None = None
    noted_ns: int | None = None


class Connection:
    """One client. Frames go through `send_data`, `send_heartbeat`, `send_control`, where the faults strike."""

    def __init__(self, world: World, venue: str, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.world, self.venue, self.socket, self.request = world, venue, socket, request
        self.last_sent_ns = 0
        self.sequence = 0
        self.subscribed: dict[str, dict[str, Any]] = {}  # channel -> product -> options
        self._queue: deque[_Frame] = deque()
        self._wake = asyncio.Event()
        self._held: _Frame | None = None

    def muted(self, channel: str, product: str) -> bool:
        """Whether this subscription was made under a `mute` fault and not been made again."""
        return bool(self.world.muted) and (self, channel, product) in self.world.muted

    def send_data(self, text: str, channel: str, product: str | None = None, noted_ns: int | None = None) -> None:
        """Queue data. `noted_ns`: the time of a sample, which cannot be requested again, to be recorded in
        `World.sent`."""
        faults, at = self.world.faults, (product, channel)
        if faults.any:
            text = faults.renamed(self.venue, text)
            if faults.active(self.venue, "silence", *at) or faults.take(self.venue, "drop", *at):
                return
            if faults.take(self.venue, "malformed", *at):
                text, noted_ns = text.replace('":', '"=', 3), None
            if faults.take(self.venue, "truncated-frame", *at):
                text, noted_ns = text[: len(text) * 2 // 3], None
            if faults.take(self.venue, "double", *at):
                self._put(_Frame(text))
            if self._held is None and faults.take(self.venue, "reorder", *at):
                self._held = _Frame(text, product, noted_ns)
                return
        self._put(_Frame(text, product, noted_ns))
        if self._held is not None:
            self._put(self._held)
            self._held = None

    def send_heartbeat(self, text: str) -> None:
        fault = self.world.faults.active(self.venue, "silence")
        if fault is None or fault.options.get("heartbeats", True):
            self._put(_Frame(text))

    def send_control(self, text: str) -> None:
        fault = self.world.faults.active(self.venue, "silence")
        if fault is None or fault.options.get("heartbeats", True):
            self._put(_Frame(self.world.faults.renamed(self.venue, text)))

    def _put(self, frame: _Frame) -> None:
        if len(self._queue) >= MAX_QUEUED_FRAMES:
            self.cut()
            return
        self._queue.append(frame)
        self._wake.set()
        self.last_sent_ns = self.world.now_ns()
        frames = self.world.stats.frames
        frames[self.venue] = frames.get(self.venue, 0) + 1

    def cut(self) -> None:
        """Abort the connection without a close frame."""
        if self.request.transport is not None:
            self.request.transport.abort()

    async def pump(self) -> None:
        """Write what is queued until the connection ends."""
        while not self.socket.closed:
            while self._queue:
                frame = self._queue.popleft()
                if frame.product is not None and frame.noted_ns is not None:
                    self.world.sent.append((self.venue, frame.product, frame.noted_ns))
                try:
                    await self.socket.send_str(frame.text)
                except (ConnectionError, RuntimeError):
                    return
            self._wake.clear()
            await self._wake.wait()


class FrameSource:
    """The orders of one tape in their time: each a list of 1..n trades that the venue executed together."""

    AHEAD_NS = 2 * SECOND_NS

    def __init__(self, world: World, tape: Tape) -> None:
        self.world, self.tape = world, tape
        self._version = world.version
        self._cursor = tape.last_id_at(world.published_until_ns())
        self._filled_until_ns = 0
        self._ready: deque[list[Trade]] = deque()
        self.last_price = tape.last_price(world.now_ns())

    def _restart(self, now_ns: int) -> None:
        """The tape was changed: forget what was prepared; after a jump of the clock go on from the new now."""
        sent = self.handed_out()
        newest = self.tape.last_id_at(now_ns)
        jumped = len(self._ready) == 0 or self._ready[0][0].ts_ns < now_ns - 5 * SECOND_NS
        self._cursor = newest if jumped and newest > sent else sent
        self._ready.clear()
        self._version, self._filled_until_ns = self.world.version, 0

    def handed_out(self) -> int:
        """The newest id that `due` has returned."""
        return self._ready[0][0].trade_id - 1 if self._ready else self._cursor

    def due(self, now_ns: int) -> list[list[Trade]]:
        """The orders executed up to now that were not handed out before."""
        if self._version != self.world.version:
            self._restart(now_ns)
        if self._filled_until_ns < now_ns:
            until = now_ns + self.AHEAD_NS
            last = self.tape.last_id_at(until)
            rows = self.tape.trades(self._cursor + 1, last).rows()
            for row in rows:
                if self._ready and self._ready[-1][-1].order == row.order:
                    self._ready[-1].append(row)
                else:
                    self._ready.append([row])
            self._cursor, self._filled_until_ns = max(self._cursor, last), until
        due: list[list[Trade]] = []
        while self._ready and self._ready[0][-1].ts_ns <= now_ns:
            due.append(self._ready.popleft())
            self.last_price = due[-1][-1].price
        return due


class StreamVenue:
    """A WebSocket endpoint. A venue adds what a request means (`on_message`) and what it sends (`publish`)."""

    venue = ""
    # What the venue allows one address: (per second, at once).
    connects_allowed = (1.0, 10.0)
    messages_allowed = (10.0, 20.0)
    too_many_messages = ""

    def __init__(self, world: World) -> None:
        self.world = world
        self._connects = TokenBucket(*self.connects_allowed)
        self._messages = TokenBucket(*self.messages_allowed)
        self.connections: set[Connection] = set()
        self.sources: dict[str, FrameSource] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one client from connect to close."""
        endpoint = self.world.stats.endpoint(self.venue, "websocket")
        endpoint.count()
        if not self._connects.take():
            endpoint.refused += 1
            endpoint.violations += 1
            raise web.HTTPTooManyRequests(text="too many connections")
        if self.world.faults.active(self.venue, "cut"):
            endpoint.refused += 1
            raise web.HTTPServiceUnavailable(text="upstream connect error")
        socket = web.WebSocketResponse(compress=False, max_msg_size=1 << 20)
        await socket.prepare(request)
        connection = Connection(self.world, self.venue, socket, request)
        self.connections.add(connection)
        self._prepare()
        tasks = [asyncio.create_task(connection.pump()), *self.on_connect(connection)]
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._count_message(connection, message.data)
        finally:
            self.connections.discard(connection)
            self.world.muted = {key for key in self.world.muted if key[0] is not connection}
            for task in tasks:
                task.cancel()
        return socket

    def _count_message(self, connection: Connection, text: str) -> None:
        endpoint = self.world.stats.endpoint(self.venue, "websocket-messages")
        endpoint.count()
        if self._messages.take():
            self.on_message(connection, text)
        else:
            endpoint.refused += 1
            endpoint.violations += 1
            connection.send_control(self.too_many_messages)

    def on_connect(self, connection: Connection) -> list[asyncio.Task[None]]:
        return []

    def on_message(self, connection: Connection, text: str) -> None:
        raise NotImplementedError

    def publish(self, now_ns: int) -> None:
        raise NotImplementedError

    def cut(self) -> None:
        for connection in list(self.connections):
            connection.cut()

    def _prepare(self) -> None:
        """The first client: from now on everything is handed out, so snapshot and updates meet without a hole."""
        if not self.sources:
            for product in self.world.products(self.venue):
                tape = self.world.tapes[self.venue, product.symbol]
                self.sources[product.symbol] = FrameSource(self.world, tape)

    def due(self, now_ns: int) -> list[tuple[FrameSource, list[list[Trade]]]]:
        """Return what every product has to send now; nothing is prepared without subscribers."""
        if not self.connections:
            self.sources.clear()
            return []
        return [(source, orders) for source in self.sources.values() if (orders := source.due(now_ns))]

    async def run(self, tick_s: float) -> None:
        """Publish forever, every `tick_s` seconds."""
        while True:
            await asyncio.sleep(tick_s)
            self.publish(self.world.now_ns())
