"""`/api/stream`: changes of a chart as server-sent events.

Events: `candle` (a row as in `/api/candles`, with the time its newest tick was received), `quote` (the newest bid and
ask), `changed` (an interval to reload), `gap` (see `gap.avsc`), `state` (whether the topic is being read, and `why`
nothing can be shown). `newest_us` in `state` and `candle` is the time of the newest tick and `now_us` the clock that it
is compared with, so that a page can say how old its feed is however long it has been open.

A browser that does not read is disconnected, so that nothing accumulates for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
from aiohttp import web

from dashboard.charts.feed import Feeds
from dashboard.charts.live_candle import LiveCandles
from dashboard.store import Store
from pipeline.core.errors import Unavailable
from pipeline.core.runtime import now_us
from pipeline.core.timeframes import Timeframe
from pipeline.core.times import from_us, to_us
from pipeline.database.sql import statement
from pipeline.stream.instruments import Instrument
from pipeline.stream.items import Gap, Item, Link, Past, Tick
from pipeline.stream.running import text_of

# One event in this time is enough for the eye, and 1,000 frames a second are 25 events.
PACE_S = 0.04
ALIVE_S = 10.0
# The writer stores a tick within a few ms; a repair is looked for at these pauses until the ledger has it.
SYNC_PAUSES_S = (0.25, 0.5, 1.0, 2.0, 5.0)
STORED_WITHIN_S = 60.0
# The system holds some MB for a reader that sleeps; who has not made room after this long has gone.
TAKEN_WITHIN_S = 10.0
# Gaps announced while one event is on its way; more are one span to load again.
EVENTS_MOST = 100

NAMESPACES = {"trades": ("trades",), "tickers": ("tickers",), "quotes": ("quotes", "tickers")}


class ChartStream:
    """The life of one `EventSource`."""

    def __init__(self, store: Store, feeds: Feeds, instrument: Instrument, timeframe: Timeframe) -> None:
        self._store, self._feeds, self._one, self._timeframe = store, feeds, instrument, timeframe
        self._live = LiveCandles(store, instrument, timeframe)
        self._dirty: set[int] = set()
        self._events: list[tuple[str, Any]] = []
        self._past: Past | None = None
        self._quote: Tick | None = None
        self._newest_us = 0
        self._wake, self._wake_sync = asyncio.Event(), asyncio.Event()
        self._up = False
        self._why: str | None = None

    async def run(self, response: web.StreamResponse) -> None:
        """Send events until the browser disconnects, then raise `ConnectionError`."""
        leave = [
            self._feeds.listen(n, self._one.venue, self._one.product_id, self._take) for n in NAMESPACES[self._one.kind]
        ]
        leave.append(self._feeds.listen("tickers", self._one.venue, self._one.product_id, self._take_quote))
        leave.append(self._feeds.listen_to_gaps(self._take_gap))
        tasks = [asyncio.create_task(one) for one in (self._sync(), self._reload())]
        sending = asyncio.create_task(self._send(response))
        try:  # whichever ends first: none of them should
            done, _ = await asyncio.wait([sending, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            tasks.append(sending)
            for end in leave:
                end()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- what comes ----------------------------------------------------------------------------------------------------

    def _take(self, items: Sequence[Item]) -> None:
        for item in items:
            if isinstance(item, Tick):
                self._dirty.add(self._live.add(item))
                # a wrong time in the future must not make a dead feed look young
                self._newest_us = max(self._newest_us, min(item.timestamp_us, item.received_at_us))
            elif isinstance(item, Past):
                self._past = _union(self._past, item)
            elif isinstance(item, Link):
                self._up = item.up
                self._state()
        if self._live.wants_sync:
            self._wake_sync.set()
        self._wake.set()

    def _explain(self, why: str | None) -> None:
        if (self._why is None) != (why is None):
            self._why = why
            self._state()

    def _state(self) -> None:
        about = {"live": self._up, "why": self._why, "newest_us": self._newest_us, "now_us": now_us()}
        self._events = [event for event in self._events if event[0] != "state"] + [("state", about)]
        self._wake.set()

    def _take_quote(self, items: Sequence[Item]) -> None:
        for item in items:
            if isinstance(item, Tick) and item.ask is not None:
                self._quote = item
                self._wake.set()

    def _take_gap(self, items: Sequence[Item]) -> None:
        for item in items:
            if isinstance(item, Gap):
                record = item.record
                mine = (record["venue"], record["product_id"]) == (self._one.venue, self._one.product_id)
                if mine and len(self._events) < EVENTS_MOST:
                    self._events.append(("gap", _plain(record)))
                    self._wake.set()

    # -- queries of the database ---------------------------------------------------------------------------------------

    async def _sync(self) -> None:
        """Synchronize the candles with the database whenever needed."""
        attempt = 0
        found = False
        while True:
            try:
                if not found:
                    await self._find_newest()
                    found = True
                self._dirty.update(await self._live.sync())
                self._wake.set()
                self._explain("the database has not stored the latest ticks yet" if self._live.behind else None)
            except Unavailable as error:
                self._explain(str(error)[:300])
                await asyncio.sleep(2)
                continue
            attempt = attempt + 1 if self._live.wants_sync else 0
            self._wake_sync.clear()
            if not self._live.wants_sync:
                await self._wake_sync.wait()
            await asyncio.sleep(SYNC_PAUSES_S[min(attempt, len(SYNC_PAUSES_S) - 1)])

    async def _find_newest(self) -> None:
        """The time of the newest tick that is stored. Raises `Unavailable`."""
        kind = "trades" if self._one.kind == "trades" else "quotes"
        query = statement("dashboard/newest_tick").replace(":kind", kind).replace(":candle", f"{kind[:-1]}_candle_1m")
        for row in await self._store.rows(dict[str, datetime | None], query, {"id": self._one.instrument_id}):
            if (newest := row["newest"]) is not None:
                self._newest_us = max(self._newest_us, to_us(newest))
        self._state()

    async def _reload(self) -> None:
        """Tell the browser to reload intervals changed by history messages, once they are stored."""
        while True:
            await asyncio.sleep(0.5)
            past, self._past = self._past, None
            if past is None:
                continue
            await self._await_stored(past)
            self._events.append(("changed", {"from": past.from_us // 1_000_000, "to": -(-past.to_us // 1_000_000)}))
            self._wake.set()

    async def _await_stored(self, past: Past) -> None:
        for _ in range(int(STORED_WITHIN_S / 0.5)):
            if past.fetched_at_us is None:
                return await asyncio.sleep(2)  # trades: the writer needs at most this long
            with contextlib.suppress(Unavailable):
                query = "SELECT 1 FROM quote_hours WHERE instrument_id = %s AND fetched_at >= %s LIMIT 1"
                if await self._store.rows(dict, query, (self._one.instrument_id, from_us(past.fetched_at_us))):
                    return None
            await asyncio.sleep(0.5)
        return None

    # -- what goes -----------------------------------------------------------------------------------------------------

    async def _send(self, response: web.StreamResponse) -> None:
        while True:
            quiet = False
            try:
                await asyncio.wait_for(self._wake.wait(), ALIVE_S)
            except TimeoutError:
                quiet = True
            self._wake.clear()
            events, self._events = self._events, []
            dirty, self._dirty = self._dirty, set()
            for bucket in sorted(dirty)[-EVENTS_MOST:]:
                if (row := self._live.row(bucket)) is not None:
                    times = {"received_at_us": self._live.received_at_us, "newest_us": self._newest_us}
                    events.append(("candle", {"candle": row, **times, "now_us": now_us()}))
            if (quote := self._quote) is not None:
                self._quote = None
                shown = {"bid": text_of(quote.price), "ask": text_of(quote.ask), "at_us": quote.timestamp_us}
                events.append(("quote", {**shown, "received_at_us": quote.received_at_us, "now_us": now_us()}))
            text = b"".join(b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data)) for name, data in events)
            if text or quiet:
                try:
                    await asyncio.wait_for(response.write(text or b": alive\n\n"), TAKEN_WITHIN_S)
                except TimeoutError:
                    raise ConnectionResetError("the browser does not read") from None
            await asyncio.sleep(PACE_S)


def _union(one: Past | None, two: Past) -> Past:
    if one is None:
        return two
    fetched = [at for at in (one.fetched_at_us, two.fetched_at_us) if at is not None]
    return Past(min(one.from_us, two.from_us), max(one.to_us, two.to_us), max(fetched, default=None))


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """Return a gap event with sanitized texts. Never raises, whatever was published."""
    return {
        name: value[:100].encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for name, value in record.items()
    }
