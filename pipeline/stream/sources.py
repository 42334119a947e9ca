"""Trades and gaps of one product from their topics, in the topics' order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pulsar

import schemas
from pipeline.broker.topics import GAPS_TOPIC, full_name, topic_of
from pipeline.core import events
from pipeline.core.log import get_logger
from pipeline.core.settings import PulsarSettings
from pipeline.stream.events import Event, GapEvent, TradeEvent
from pipeline.stream.items import Tick, ticks_of, trades_message
from pipeline.stream.position import Follower, Place, Places, PositionLost, SeenIds, Unsure, key_of
from pipeline.stream.topic import ReadAgain, TopicReader
from schemas.records import TradeRow, TradesMessage
from schemas.trade import Trade


@dataclass
class Outlet:
    """Where the sources of one stream put their events. Called from several threads.

    `put` takes an event and the place behind it; it blocks while the queue is full and returns False once the stream
    has ended. `fail` ends the stream with an error.
    """

    venue: str
    product_id: str
    places: Places  # where to resume, by kind
    began_ms: int  # when the stream was opened, ms since 1970
    put: Callable[[Event, Place], bool]
    fail: Callable[[Exception], None]


class Source(Protocol):
    """The source of one kind of events, in threads of its own."""

    def start(self) -> None: ...

    def stop(self) -> None:
        """Ask the threads to end; returns at once."""

    def join(self, timeout_s: float) -> None:
        """Wait for the threads to end, for at most `timeout_s` each."""


class TopicSource:
    """Base of the sources: reads a topic and handles new, unreadable and lost messages."""

    def __init__(self, client: pulsar.Client, settings: PulsarSettings, topic: str, kind: str, out: Outlet) -> None:
        self.kind, self.out = kind, out
        self.follower = Follower(out.began_ms, out.places.get(kind))
        follower = self.follower
        self.reader = TopicReader(
            client, settings, topic, follower.start_ms, self._on_message, lambda up: None, follower.quiet
        )

    def start(self) -> None:
        self.reader.start()

    def stop(self) -> None:
        self.reader.stop()

    def join(self, timeout_s: float) -> None:
        self.reader.thread.join(timeout_s)

    def _on_message(self, message: pulsar.Message) -> None:
        try:
            key, sent_ms = key_of(message), message.publish_timestamp()
            new = self.follower.is_new(key, sent_ms)
            self.message(message, Place(sent_ms, key), new)
        except PositionLost as error:
            self.reader.stop()
            self.out.fail(error)
        except Unsure:
            raise ReadAgain from None
        except Exception as error:  # a poisoned message is the writer's to report
            get_logger().debug(events.PARSE_ERROR, topic=self.reader.topic, error=repr(error)[:200])

    def message(self, message: pulsar.Message, place: Place, new: bool) -> None:
        """Handle a message. `new`: it comes after the position. Runs in the reader's thread; errors are logged."""
        raise NotImplementedError


class Trades(TopicSource):
    """Trades, each once. Trades of a back-fill are not live and are omitted."""

    def __init__(self, client: pulsar.Client, settings: PulsarSettings, out: Outlet) -> None:
        topic = topic_of(settings.tenant, "trades", out.venue, out.product_id)
        super().__init__(client, settings, topic, "trades", out)
        self._seen = SeenIds(list(self.follower.place.ids) if self.follower.place else [])

    def message(self, message: pulsar.Message, place: Place, new: bool) -> None:
        if not (new or self.follower.is_last(place)):
            return
        found = trades_message(self.reader.topic, message.data())
        for tick, row in ticks_of(found) if found.origin != "history" else ():
            if not self._seen.add(row.trade_id):
                continue
            trade = trade_of(found, tick, row)
            event = TradeEvent("trades", found.venue, found.product_id, trade, found.origin, found.received_at_us)
            if not self.out.put(event, place.replace(ids=tuple(self._seen.ranges))):
                return
        self.follower.move(place)


def trade_of(message: TradesMessage, tick: Tick, row: TradeRow) -> Trade:
    """Return a trade as the public type."""
    return Trade(
        product_id=message.product_id,
        price=tick.price,
        quantity=tick.size,
        timestamp_us=tick.timestamp_us,
        trade_id=row.trade_id,
        taker_side=row.taker_side,
    )


class Gaps(TopicSource):
    """Gaps of the product: opened, repaired or given up."""

    def __init__(self, client: pulsar.Client, settings: PulsarSettings, out: Outlet) -> None:
        super().__init__(client, settings, full_name(settings.tenant, "control", GAPS_TOPIC), "gaps", out)

    def message(self, message: pulsar.Message, place: Place, new: bool) -> None:
        if not new:
            return
        record = schemas.decode("gap", message.data())
        self.follower.move(place)
        if (record["venue"], record["product_id"]) == (self.out.venue, self.out.product_id):
            self.out.put(GapEvent("gaps", self.out.venue, self.out.product_id, record), place)
