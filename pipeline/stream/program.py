"""The public stream: sources in threads put events into a bounded queue, from which the caller takes them."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import pulsar

from pipeline.broker.client import new_client
from pipeline.core.errors import WrongUse
from pipeline.core.products import canonical_venue, short
from pipeline.core.runtime import now_us
from pipeline.core.settings import DatabaseSettings, PulsarSettings, load
from pipeline.core.timeframes import TIMEFRAMES
from pipeline.stream.candles import Candles
from pipeline.stream.events import Event
from pipeline.stream.position import Place, places_of, text_of_places
from pipeline.stream.sources import Gaps, Outlet, Source, Trades
from venues.registry import product_at

# Events that wait for a busy caller; when the queue is full, reading the topics pauses.
WAITING_MOST = 1_000
CLOSE_WITHIN_S = 2.0
KINDS = ("trades", "gaps", *(f"candles_{name}" for name in TIMEFRAMES))


class Stream:
    """A stream of events. Iterate over it or call `poll`; close it or use it as a context manager.

    Used by one thread at a time; only `close` may be called from another.
    """

    def __init__(
        self,
        venue: str,
        product: str,
        kinds: Sequence[str] = ("trades",),
        *,
        after: str | None = None,
        client: pulsar.Client | None = None,
    ) -> None:
        """Connect and start reading.

        `after`: the `position` of an event, to resume behind it; without it, only what is published from now on is
        emitted. `client`: a Pulsar client to share. Raises `WrongUse` for an invalid name, position or setting.
        """
        kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        for kind in kinds:
            if kind not in KINDS:
                raise WrongUse(f"{short(kind)} is not a valid kind of event; choose from {', '.join(KINDS)}.")
        if not kinds:
            raise WrongUse(f"kinds is empty; choose from {', '.join(KINDS)}.")
        self.venue = canonical_venue(venue)
        self.product_id = product_at(self.venue, product)
        self.places = places_of(after)
        self._queue: queue.Queue[tuple[Event, Place]] = queue.Queue(WAITING_MOST)
        self._closed, self._error = threading.Event(), None  # type: tuple[threading.Event, Exception | None]
        pulsar_settings, database = load(PulsarSettings), load(DatabaseSettings)
        self._own = client is None
        self._client = client or new_client(pulsar_settings)
        out = Outlet(self.venue, self.product_id, dict(self.places), now_us() // 1000, self._put, self._fail)
        self._sources = [_source(kind, self._client, pulsar_settings, database, out) for kind in dict.fromkeys(kinds)]
        for source in self._sources:
            source.start()

    @property
    def position(self) -> str:
        """The position behind the last event; empty before the first event of a new stream."""
        return text_of_places(self.places) if self.places else ""

    def _put(self, event: Event, place: Place) -> bool:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put((event, place), timeout=0.5)
                return True
        return False

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error

    def poll(self, timeout_s: float | None = None) -> Event | None:
        """Return the next event; None if there was none within `timeout_s` (None: wait forever), or the stream was
        closed.

        Raises `PositionLost` if the topic no longer has the position, `WrongUse` if the database or the broker denies
        access.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._closed.is_set():
            wait_s = 0.5 if until is None else min(0.5, max(0.0, until - time.monotonic()))
            try:
                event, place = self._queue.get(timeout=wait_s) if wait_s else self._queue.get_nowait()
            except queue.Empty:
                if self._error is not None:
                    raise self._error from None
                if until is not None and time.monotonic() >= until:
                    return None
                continue
            self.places[event.kind] = place
            return replace(event, position=text_of_places(self.places))
        return None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event = self.poll()
        if event is None:
            raise StopIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the stream. Thread-safe; may be called more than once."""
        if self._closed.is_set():
            return
        self._closed.set()
        for source in self._sources:
            source.stop()
        until = time.monotonic() + CLOSE_WITHIN_S
        for source in self._sources:
            source.join(max(0.0, until - time.monotonic()))
        if self._own:
            with contextlib.suppress(pulsar.PulsarException):  # already closed, or no broker
                self._client.close()


def _source(
    kind: str, client: pulsar.Client, settings: PulsarSettings, database: DatabaseSettings, out: Outlet
) -> Source:
    if kind == "trades":
        return Trades(client, settings, out)
    if kind == "gaps":
        return Gaps(client, settings, out)
    return Candles(client, settings, database, TIMEFRAMES[kind.removeprefix("candles_")], out)


def stream(venue: str, product: str, kinds: Sequence[str] = ("trades",), *, after: str | None = None) -> Stream:
    """Open a stream of a product's events: `trades`, `gaps`, `candles_1m` ... `candles_1d`. See `Stream`."""
    return Stream(venue, product, kinds, after=after)


async def astream(
    venue: str, product: str, kinds: Sequence[str] = ("trades",), *, after: str | None = None
) -> AsyncIterator[Event]:
    """`stream` for asyncio; closed when the iteration ends. Waits in a worker thread."""
    made = await asyncio.to_thread(Stream, venue, product, kinds, after=after)
    try:
        while True:
            event = made.poll(0) or await asyncio.to_thread(made.poll, 0.5)
            if event is not None:
                yield event
    finally:
        await asyncio.shield(asyncio.to_thread(made.close))
