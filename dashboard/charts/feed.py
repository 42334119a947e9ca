"""Topics as the charts listen to them: one Pulsar reader per shown topic, shared by all who look at it.

A reader begins a little in the past, so that what was on its way to the database when the chart was opened is not
missed. A reader's thread waits while the page has not taken what it handed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence

import pulsar

from pipeline.broker.client import new_client
from pipeline.broker.topics import GAPS_TOPIC, full_name, topic_of
from pipeline.core import events
from pipeline.core.log import get_logger
from pipeline.core.settings import PulsarSettings
from pipeline.stream.items import PARSERS, Item, Link
from pipeline.stream.topic import TopicReader

# How far back a reader starts; the writer commits within a second.
REACH_BACK_S = 20
CLOSE_WITHIN_S = 2.0
# Items not yet processed by the page's event loop.
HANDED_OVER = 50
Listener = Callable[[Sequence[Item]], None]


class Feed:
    """One topic, read by a thread while it has listeners."""

    def __init__(
        self,
        client: pulsar.Client,
        settings: PulsarSettings,
        topic: str,
        namespace: str,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.topic = topic
        self._parse = PARSERS[namespace]
        self._loop = loop
        self._room = threading.Semaphore(HANDED_OVER)
        self.listeners: set[Listener] = set()
        self.up = False
        self.reader = TopicReader(
            client,
            settings,
            topic,
            lambda: int((time.time() - REACH_BACK_S) * 1000),
            self._take,
            lambda up: self._hand_over([Link(up)]),
        )
        self.reader.start()

    def _take(self, message: pulsar.Message) -> None:
        try:
            found = self._parse(self.topic, message.data())
        except Exception as error:  # the writer reports invalid messages
            get_logger().debug(events.PARSE_ERROR, topic=self.topic, error=repr(error)[:200])
            return
        if found:
            self._hand_over(found)

    def _hand_over(self, found: Sequence[Item]) -> None:
        while not self._room.acquire(timeout=0.5):
            if self.reader.stopping.is_set():
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
            except Exception as error:  # an error of one chart must not affect others
                get_logger().error(events.FAILED, topic=self.topic, error=repr(error)[:200])


class Feeds:
    """All feeds with listeners."""

    def __init__(self, settings: PulsarSettings) -> None:
        self._settings = settings
        self._client = new_client(settings)
        self._feeds: dict[str, Feed] = {}
        self._threads: list[threading.Thread] = []

    def listen(self, namespace: str, venue: str, product_id: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` for everything new on a product's topic; returns a function that ends it."""
        return self._join(topic_of(self._settings.tenant, namespace, venue, product_id), namespace, listener)

    def listen_to_gaps(self, listener: Listener) -> Callable[[], None]:
        return self._join(full_name(self._settings.tenant, "control", GAPS_TOPIC), "control", listener)

    def _join(self, topic: str, namespace: str, listener: Listener) -> Callable[[], None]:
        feed = self._feeds.get(topic)
        if feed is None:
            feed = self._feeds[topic] = Feed(self._client, self._settings, topic, namespace, asyncio.get_running_loop())
            self._threads = [*(one for one in self._threads if one.is_alive()), feed.reader.thread]
        feed.listeners.add(listener)
        listener([Link(feed.up)])

        def leave() -> None:
            feed.listeners.discard(listener)
            if not feed.listeners and self._feeds.get(topic) is feed:
                del self._feeds[topic]
                feed.reader.stop()

        return leave

    def close(self) -> None:
        """Close all readers; one may still hang in the client afterwards (no broker)."""
        for feed in self._feeds.values():
            feed.reader.stop()
        until = time.monotonic() + CLOSE_WITHIN_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        with contextlib.suppress(pulsar.PulsarException):  # already closed, or no broker
            self._client.close()
