"""Events of one product and kind, read once and handed to every client that follows them.

A hub keeps the newest `KEPT` events. A client is a place in them, so that a slow one costs nothing: it is dropped when
what it has not taken is no longer kept. A client that comes back is put behind the event that it had last; where the
hub does not have that any more, it gets a hub of its own, of which there are few. What a hub reads of the past it reads
no faster than its quickest client takes it, and only those hear of it that asked for the past.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import orjson
import pulsar

from pipeline.core import events
from pipeline.core.errors import PipelineError, Unavailable
from pipeline.core.log import get_logger
from pipeline.core.runtime import now_us
from pipeline.core.text import redact
from pipeline.stream import CandleEvent, Event, Stream, TradeEvent
from pipeline.stream.position import MessageKey, Place, text_of_places

KEPT = 2_000
# Limit of events handed over and not yet taken by the event loop.
HANDED_OVER = 500
# An unused hub is kept for this long, for clients that reconnect.
LINGER_S = 30.0
CLOSE_WITHIN_S = 3.0
HUBS_MOST, OWN_MOST = 64, 16


@dataclass(frozen=True, slots=True)
class Kept:
    """An event as it is sent. `trade_id` of a trade, `closed_us` the start of a closed candle; `old`: from before the
    hub was opened."""

    number: int
    place: Place
    body: bytes
    trade_id: int | None
    closed_us: int | None
    old: bool


class Hub:
    """One kind of one product. Everything but `_run` happens on the event loop."""

    def __init__(self, client: pulsar.Client, venue: str, product_id: str, kind: str, after: Place | None) -> None:
        self.kind = kind
        self.kept: deque[Kept] = deque()
        self.count = 0  # of events so far
        self.error: str | None = None
        self.wakes: set[asyncio.Event] = set()
        self.own = False  # of one client
        # From here on nothing is missing: a message, and whether only what comes behind it.
        self._floor: tuple[MessageKey, bool] | None = (after.message, True) if after and after.message else None
        self._loop = asyncio.get_running_loop()
        self._began_ms, self._old = now_us() // 1000, after is not None
        self._room, self._taken = threading.Semaphore(HANDED_OVER), 0
        self._ended = threading.Event()
        text = text_of_places({kind: after}) if after else None
        self._stream = Stream(venue, product_id, (kind,), after=text, client=client)
        self.thread = threading.Thread(target=self._run, name=f"hub-{kind}-{product_id}", daemon=True)
        self.thread.start()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                event = self._stream.poll(0.5)
                if event is None:
                    continue
                place = self._stream.places[self.kind]
                body = orjson.dumps(event.json())
                while not self._room.acquire(timeout=0.5):
                    if self._ended.is_set():
                        return
                self._later(event, place, body)
        except Exception as error:
            if not isinstance(error, PipelineError):
                get_logger().exception(events.FAILED, kind=self.kind)
            text = redact(str(error))
            self._call(lambda: self._fail(text))
        finally:
            self._stream.close()

    def _later(self, event: Event, place: Place, body: bytes) -> None:
        self._call(lambda: self._add(event, place, body))

    def _call(self, what: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(what)

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _add(self, event: Event, place: Place, body: bytes) -> None:
        self.count += 1
        self._old = self._old and place.sent_ms < self._began_ms
        closed = event.start_us if isinstance(event, CandleEvent) and event.closed else None
        trade_id = event.trade.trade_id if isinstance(event, TradeEvent) else None
        if self._floor is None and place.message:
            self._floor = place.message, False
        self.kept.append(Kept(self.count, place, body, trade_id, closed, self._old))
        if len(self.kept) > KEPT:
            gone = self.kept.popleft().place.message
            self._floor = (gone, True) if gone else self._floor
        if not (self._old and self.wakes):
            self.taken(self.count)
        self._notify()

    def taken(self, number: int) -> None:
        """A client has taken the events up to this one, or nobody is waited for: the thread may read on."""
        if number > self._taken:
            self._room.release(number - self._taken)
            self._taken = number

    def _fail(self, text: str) -> None:
        self.error = text
        self._notify()

    def _notify(self) -> None:
        for wake in self.wakes:
            wake.set()

    def cursor(self, place: Place | None) -> int | None:
        """The number of the event behind which a client goes on; None where something in between is not kept."""
        if place is None or place.message is None:
            return self.count if place is None else None
        if self._floor is None or (place.message, False) < self._floor:
            return None
        before = (one.number for one in reversed(self.kept) if one.place.message and one.place.message < place.message)
        return next(before, self.kept[0].number - 1 if self.kept else self.count)

    def since(self, cursor: int, most: int) -> list[Kept]:
        """Events behind a cursor. Raises `Unavailable` where some are no longer kept."""
        if not self.kept or cursor >= self.count:
            return []
        skip = cursor + 1 - self.kept[0].number
        if skip < 0:
            raise Unavailable(f"too slow: {-skip} events are no longer kept; come back with the last position")
        return [self.kept[at] for at in range(skip, min(len(self.kept), skip + most))]

    def close(self) -> None:
        """Returns at once; the thread closes the stream."""
        self._ended.set()


class Hubs:
    """The hubs in use."""

    def __init__(self, client: pulsar.Client) -> None:
        self._client = client
        self._shared: dict[tuple[str, str, str], Hub] = {}
        self._all: set[Hub] = set()

    def join(self, venue: str, product_id: str, kind: str, place: Place | None) -> tuple[Hub, int]:
        """A hub and where in it a client begins. Raises `Unavailable` where there are too many."""
        key = venue, product_id, kind
        hub = self._shared.get(key)
        if hub is not None and hub.error is None:
            cursor = hub.cursor(place)
            if cursor is not None:
                return hub, cursor
            if sum(one.own for one in self._all) >= OWN_MOST:
                raise Unavailable("too many clients are reading old events at once; try again in a minute")
        if len(self._all) >= HUBS_MOST:
            raise Unavailable(f"{HUBS_MOST} streams are open; try again in a minute")
        made = Hub(self._client, venue, product_id, kind, place)
        self._all.add(made)
        if hub is None or hub.error is not None:
            self._shared[key] = made
        else:
            made.own = True
        return made, 0

    def leave(self, hub: Hub, wake: asyncio.Event) -> None:
        hub.wakes.discard(wake)
        if not hub.wakes:
            hub.taken(hub.count)
            asyncio.get_running_loop().call_later(0 if hub.own or hub.error else LINGER_S, self._close_unused, hub)

    def _close_unused(self, hub: Hub) -> None:
        if hub.wakes or hub not in self._all:
            return
        self._all.discard(hub)
        for key, one in list(self._shared.items()):
            if one is hub:
                del self._shared[key]
        hub.close()

    def close(self) -> None:
        """End all of them, and wait for their threads: one inside the client must not outlive it."""
        for hub in self._all:
            hub.close()
        until = time.monotonic() + CLOSE_WITHIN_S
        for hub in self._all:
            hub.thread.join(max(0.0, until - time.monotonic()))
