"""Running and closed candles of one product and timeframe: the topic's ticks on top of the database's candles.

One thread reads the topic, another queries the database, so that neither waits for the other (`pipeline.stream.running`
explains why the result is exact). A failed query is repeated; while the database is away, no candles are emitted.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import psycopg
import pulsar

from pipeline.broker.topics import topic_of
from pipeline.core import events
from pipeline.core.errors import Unavailable, WrongUse
from pipeline.core.log import get_logger
from pipeline.core.runtime import now_us
from pipeline.core.settings import DatabaseSettings, PulsarSettings
from pipeline.core.timeframes import Timeframe
from pipeline.database import query
from pipeline.database.connection import Connection, connect
from pipeline.stream.events import CandleEvent
from pipeline.stream.instruments import KNOWN, Instrument
from pipeline.stream.items import PARSERS, Tick
from pipeline.stream.position import Place
from pipeline.stream.running import RunningCandles, Stored
from pipeline.stream.sources import Outlet, TopicSource

# Shortest time between two states of the running candle.
PACE_S = 0.1
RETRY_S = 2.0
# The writer stores a tick within some ms; after a repair the database is queried this often until the ledger has it.
SYNC_PAUSE_S = 0.5
# Without a later tick, a candle is closed this long after its end, when ticks on their way have arrived.
CLOSED_AFTER_US = 5_000_000
# Candles queried at once when a reader resumes.
AT_ONCE = 500
MOST_EMITTED = 2 * AT_ONCE
_STATEMENT_S = 8


class Candles:
    """The source of one kind of events, `candles_<timeframe>`."""

    def __init__(
        self,
        client: pulsar.Client,
        settings: PulsarSettings,
        database: DatabaseSettings,
        timeframe: Timeframe,
        out: Outlet,
    ) -> None:
        self.kind = f"candles_{timeframe.name}"
        self._client, self._settings, self._database, self._timeframe = client, settings, database, timeframe
        self._out = out
        self._place = out.places.get(self.kind)
        # The last place at which no changed closed candle was pending: a reader resuming further on would miss it.
        self._resume_place = self._place or Place(out.began_ms)
        self._lock = threading.Lock()
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._dirty: set[int] = set()  # starts of candles with new ticks
        self._emitted: dict[int, tuple[Any, ...]] = {}  # closed candles as last emitted, by their start
        self._newest_us, self._asked_s = 0, 0.0
        self._live: RunningCandles | None = None
        self._ticks: _Ticks | None = None
        self._conn: Connection | None = None
        self._thread = threading.Thread(target=self._run, name=self.kind, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        if self._ticks is not None:
            self._ticks.stop()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)
        if self._ticks is not None:
            self._ticks.join(timeout_s)

    # -- the topic's thread --------------------------------------------------------------------------------------------

    def add(self, tick: Tick, new: bool) -> None:
        """Add a tick of the topic. `new`: it comes after the position, so its candle is to be emitted."""
        with self._lock:
            assert self._live is not None
            bucket = self._live.add(tick)
            self._newest_us = max(self._newest_us, bucket)
            if new:
                self._dirty.add(bucket)
        self._wake.set()

    def read_to(self, place: Place) -> None:
        """Record that the topic was read up to this place."""
        with self._lock:
            if self._place is not None:
                place.closed_us = self._place.closed_us
            self._place = place

    # -- the database's thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._round()
            except (Unavailable, psycopg.Error) as error:
                get_logger().warning(events.DATABASE_RETRY, error=" ".join(str(error).split()), retry_in_s=RETRY_S)
                self._close()
                self._stopping.wait(RETRY_S)
            except WrongUse as error:
                self._out.fail(error)
                return
            except Exception as error:
                get_logger().exception(events.FAILED, kind=self.kind)
                self._out.fail(error)
                return
        self._close()

    def _round(self) -> None:
        self._wake.clear()
        if self._live is None and not self._begin():
            self._stopping.wait(RETRY_S)
            return
        live = self._live
        assert live is not None
        with self._lock:
            current = self._current_us()
            closed = self._closed_us(current)
            missed = range(closed + self._timeframe.width_us, current, self._timeframe.width_us)[:AT_ONCE]
            late = sorted(bucket for bucket in self._dirty if bucket <= closed)[:AT_ONCE]
            behind = [*late, *missed]
            due = live.wants_sync and time.monotonic() - self._asked_s > SYNC_PAUSE_S
            asked = live.question(*behind) if due or any(map(live.unknown, behind)) else None
        if asked is not None:
            self._asked_s = time.monotonic()
            rows = query.rows(self._connected(), Stored, asked.query, asked.values)
            with self._lock:
                live.answer(asked, rows)
        for bucket in behind:
            if not self._emit(bucket, closed=True):
                break
        else:
            self._emit(current, closed=False)
            if len(missed) == AT_ONCE:
                return
        self._wake.wait(SYNC_PAUSE_S)
        self._stopping.wait(PACE_S)

    def _current_us(self) -> int:
        """Return the start of the running candle: that of the newest tick, but within `CLOSED_AFTER_US` of our clock,
        because anyone can send a tick with any time."""
        now = now_us()
        by_clock = self._timeframe.bucket_us(now - CLOSED_AFTER_US), self._timeframe.bucket_us(now + CLOSED_AFTER_US)
        return min(max(self._newest_us, by_clock[0]), by_clock[1])

    def _closed_us(self, current: int) -> int:
        """Return the start of the newest candle emitted as closed. A new reader begins with the running candle."""
        if self._place is None:
            self._place = Place(self._out.began_ms)
        if not self._place.closed_us:
            self._place.closed_us = current - self._timeframe.width_us
        return self._place.closed_us

    def _emit(self, bucket: int, *, closed: bool) -> bool:
        """Emit a candle if it has changed. Returns False if the stream has ended, or the candle is not known yet."""
        with self._lock:
            assert self._live is not None
            assert self._place is not None
            if self._live.unknown(bucket):
                return False
            found = self._live.candle(bucket)
            dirty = bucket in self._dirty
            self._dirty.discard(bucket)
            if closed:
                self._place.closed_us = max(self._place.closed_us, bucket)
            if found is None or not (closed or dirty):
                return True
            numbers = (found.open, found.high, found.low, found.close, found.volume, found.vwap, found.ticks)
            if closed:
                if self._emitted.get(bucket) == numbers:
                    return True  # it already contained the late ticks
                self._emitted[bucket] = numbers
                if len(self._emitted) > MOST_EMITTED:
                    del self._emitted[min(self._emitted)]
            event = CandleEvent(self.kind, self._out.venue, self._out.product_id, bucket, *numbers, closed)
            if not any(start <= self._place.closed_us for start in self._dirty):
                self._resume_place = self._place.replace()
            place = self._resume_place.replace(closed_us=self._place.closed_us)
        return self._out.put(event, place)

    def _begin(self) -> bool:
        """Find the instrument and start reading its topic. Returns False while nothing of it is stored."""
        values = (self._out.venue, self._out.product_id)
        found = query.row(self._connected(), Instrument, KNOWN + " WHERE i.venue = %s AND i.product_id = %s", values)
        if found is None or found.kind is None:
            return False
        if found.kind == "quotes":
            raise WrongUse(f"{found.venue} {found.product_id} has no live stream; read its candles with pipeline.read.")
        self._live = RunningCandles(found, self._timeframe)
        self._ticks = _Ticks(self._client, self._settings, found.kind, self.kind, self, self._out)
        self._ticks.start()
        return True

    def _connected(self) -> Connection:
        if self._conn is None:
            self._conn = connect(self._database, "stream", read_only=True)
            self._conn.execute(f"SET statement_timeout = '{_STATEMENT_S}s'")
        return self._conn

    def _close(self) -> None:
        if self._conn is not None:
            with suppress(psycopg.Error):  # already closed
                self._conn.close()
            self._conn = None


class _Ticks(TopicSource):
    """Passes the ticks of a product's topic to `Candles`."""

    def __init__(
        self,
        client: pulsar.Client,
        settings: PulsarSettings,
        space: str,
        kind: str,
        candles: Candles,
        out: Outlet,
    ) -> None:
        super().__init__(client, settings, topic_of(settings.tenant, space, out.venue, out.product_id), kind, out)
        self._parse = PARSERS[space]
        self._candles = candles

    def message(self, message: pulsar.Message, place: Place, new: bool) -> None:
        for item in self._parse(self.reader.topic, message.data()):
            if isinstance(item, Tick):
                self._candles.add(item, new)
        if new:
            self.follower.move(place)
            self._candles.read_to(place)
