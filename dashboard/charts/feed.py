"""Topics as the charts listen to them: one Pulsar reader per shown topic, shared by all who look at it.

Readers are not durable and acknowledge nothing: a dashboard never holds data back on the broker. A reader begins a
little in the past, so that what was on its way to the database when the chart was opened is not missed. The broker
would make a topic that a reader asks for: whether it is there is asked of the admin interface first.

Anything may stand on a topic. What the writer would refuse is left out here too, a message of more trades than anybody
draws is a span to load again, and a thread waits while the page has not taken what it handed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import pulsar

import schemas
from pipeline.broker.admin import Admin
from pipeline.broker.client import new_client
from pipeline.broker.topics import GAPS_TOPIC, full_name, topic_of
from pipeline.core import events
from pipeline.core.errors import PipelineError, Refused
from pipeline.core.log import get_logger
from pipeline.core.settings import PulsarSettings
from pipeline.core.times import OLDEST_US
from schemas.columns import decode_quote_hour
from schemas.records import TickerMessage, TradesMessage, decode_as

# The writer commits within a second; this long before the opening is read again.
REACH_BACK_S = 20
RETRY_S = 2.0
CLOSE_WITHIN_S = 2.0
# Messages waiting in the client: hours of quotes have some MB, the others some hundred bytes.
QUEUES = {"quotes": 10}
QUEUE = 200
# Messages handed over and not yet taken by the page's loop.
HANDED_OVER = 50
TICKS_MOST = 2_000
# As the writer: a row may be ahead of our clock by a day.
_AHEAD_US = 86_400_000_000
_HOUR_US = 3_600_000_000
_DIGITS = 40


@dataclass(frozen=True, slots=True)
class Tick:
    """A trade, or a ticker's bid. `order` is the trade id, or the `seq` of one instant."""

    timestamp_us: int
    order: int
    price: Decimal
    size: Decimal
    received_at_us: int
    heard_s: float  # monotonic


@dataclass(frozen=True, slots=True)
class Past:
    """`[from_us, to_us)` of an instrument is about to change in the database; for quotes, when the ledger has an
    answer as new as `fetched_at_us`."""

    from_us: int
    to_us: int
    fetched_at_us: int | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """An event of `control/gaps`, as `gap.avsc`."""

    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Link:
    """Whether the reader is connected."""

    up: bool


Item = Tick | Past | Gap | Link
Listener = Callable[[Sequence[Item]], None]


def _decimal(text: str) -> Decimal | None:
    """None for what the writer would not store: 16 digits, 18 decimals."""
    try:
        value = Decimal(text) if len(text) <= _DIGITS else None
    except InvalidOperation:
        return None
    if value is None or not value.is_finite() or (value and not -18 <= value.adjusted() < 16):
        return None
    return value


def _time_ok(timestamp_us: int) -> bool:
    return OLDEST_US <= timestamp_us <= time.time_ns() // 1000 + _AHEAD_US


def _past(times: list[int], fetched_at_us: int | None = None) -> list[Item]:
    """The span of what is not drawn one by one."""
    good = [at for at in times if _time_ok(at)]
    return [Past(min(good), max(good) + 1, fetched_at_us)] if good else []


def items_of_trades(data: bytes) -> list[Item]:
    """Ticks of a message, or the span of a history message, whose trades nobody wants one by one."""
    message = decode_as(TradesMessage, data)
    trades = message.trades
    if message.origin == "history" or len(trades) > TICKS_MOST:
        return _past([t.timestamp_us for t in trades])
    now = time.monotonic()
    made: list[Item] = []
    for t in trades:
        price, size = _decimal(t.price), _decimal(t.quantity)
        good = price is not None and price > 0 and size is not None and size >= 0
        if price is not None and size is not None and good and _time_ok(t.timestamp_us):
            made.append(Tick(t.timestamp_us, t.trade_id, price, size, message.received_at_us, now))
    return made


def items_of_ticker(data: bytes) -> list[Item]:
    message = decode_as(TickerMessage, data)
    bid, size = _decimal(message.bid), _decimal(message.bid_size)
    if bid is None or size is None or bid <= 0 or size < 0 or not _time_ok(message.timestamp_us):
        return []
    return [Tick(message.timestamp_us, message.seq, bid, size, message.received_at_us, time.monotonic())]


def items_of_hour(data: bytes) -> list[Item]:
    header = decode_quote_hour(data).header
    start, fetched = header.hour_start_us, header.fetched_at_us
    return _past([start, start + _HOUR_US - 1], fetched) if _time_ok(start) and _time_ok(fetched) else []


def items_of_gap(data: bytes) -> list[Item]:
    return [Gap(schemas.decode("gap", data))]


PARSERS = {"trades": items_of_trades, "tickers": items_of_ticker, "quotes": items_of_hour, "control": items_of_gap}


class Feed:
    """One topic, read by a thread as long as anybody listens."""

    def __init__(
        self,
        client: pulsar.Client,
        there: Callable[[str], bool],
        topic: str,
        namespace: str,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.topic = topic
        self._client, self._there = client, there
        self._parse = PARSERS[namespace]
        self._queue = QUEUES.get(namespace, QUEUE)
        self._loop = loop
        self._stop = threading.Event()
        self._room = threading.Semaphore(HANDED_OVER)
        self.listeners: set[Listener] = set()
        self.up = False
        self.thread = threading.Thread(target=self._run, name=f"feed-{topic.rsplit('/', 1)[-1]}", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if self._there(self.topic):
                    self._connect()
                else:
                    self._tell([Link(False)])
            except (pulsar.PulsarException, PipelineError) as error:
                self._tell([Link(False)])
                get_logger().warning(events.BROKER_RETRY, on=self.topic, error=str(error), retry_in_s=RETRY_S)
            self._stop.wait(RETRY_S)

    def _connect(self) -> None:
        reader = self._client.create_reader(self.topic, pulsar.MessageId.latest, receiver_queue_size=self._queue)
        try:
            reader.seek(int((time.time() - REACH_BACK_S) * 1000))
            self._read(reader)
        finally:
            with contextlib.suppress(pulsar.PulsarException):  # already closed
                reader.close()

    def _read(self, reader: pulsar.Reader) -> None:
        while not self._stop.is_set():
            if self.up != (up := reader.is_connected()):
                self._tell([Link(up)])
            try:
                message = reader.read_next(timeout_millis=500)
            except pulsar.Timeout:
                continue
            try:
                found = self._parse(message.data())
            except Exception as error:  # a poisoned message is the writer's to report
                get_logger().debug(events.PARSE_ERROR, topic=self.topic, error=repr(error)[:200])
                continue
            if found:
                self._tell(found)

    def _tell(self, found: Sequence[Item]) -> None:
        while not self._room.acquire(timeout=0.5):
            if self._stop.is_set():
                return
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._spread, found)

    def _spread(self, found: Sequence[Item]) -> None:
        self._room.release()
        for item in found:
            if isinstance(item, Link):
                self.up = item.up
        for listener in list(self.listeners):
            try:
                listener(found)
            except Exception as error:  # one chart's trouble is not another's
                get_logger().error(events.FAILED, topic=self.topic, error=repr(error)[:200])


class Feeds:
    """The feeds that somebody listens to."""

    def __init__(self, settings: PulsarSettings) -> None:
        self._settings = settings
        self._client = new_client(settings)
        self._feeds: dict[str, Feed] = {}
        self._threads: list[threading.Thread] = []

    def listen(self, namespace: str, venue: str, product_id: str, listener: Listener) -> Callable[[], None]:
        """Be told of everything new on a product's topic; returns how to end that."""
        return self._join(topic_of(self._settings.tenant, namespace, venue, product_id), namespace, listener)

    def listen_to_gaps(self, listener: Listener) -> Callable[[], None]:
        return self._join(full_name(self._settings.tenant, "control", GAPS_TOPIC), "control", listener)

    def _join(self, topic: str, namespace: str, listener: Listener) -> Callable[[], None]:
        feed = self._feeds.get(topic)
        if feed is None:
            feed = self._feeds[topic] = Feed(self._client, self._there, topic, namespace, asyncio.get_running_loop())
            self._threads = [*(one for one in self._threads if one.is_alive()), feed.thread]
        feed.listeners.add(listener)
        listener([Link(feed.up)])

        def leave() -> None:
            feed.listeners.discard(listener)
            if not feed.listeners and self._feeds.get(topic) is feed:
                del self._feeds[topic]
                feed.stop()

        return leave

    def _there(self, topic: str) -> bool:
        """Whether the topic exists: see the module's text. Raises `Unavailable`, `WrongUse`."""
        namespace = "/".join(topic.removeprefix("persistent://").split("/")[:2])
        try:
            return topic in Admin(self._settings).topics(namespace)  # its own session: each feed has a thread
        except Refused as error:
            return ": 404 " not in str(error)  # no such namespace; where one may not look, it is taken to be there

    def close(self) -> None:
        """End all readers; one may still hang in the client afterwards (no broker)."""
        for feed in self._feeds.values():
            feed.stop()
        until = time.monotonic() + CLOSE_WITHIN_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        with contextlib.suppress(pulsar.PulsarException):  # already closed, or no broker
            self._client.close()
