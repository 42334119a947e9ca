"""One subscription over all topics of a namespace: receive, and acknowledge what is stored.

The subscription is called `writer` and is Failover: several processes share the topics, each topic has one reader at
a time, and the order within a topic is kept, so that one cumulative acknowledgement per topic and batch is enough.
Topics may come, go and come again: the client looks for new ones every second, and a subscription that breaks is made
anew on a new client.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pulsar

import schemas
from consumers.pattern import subscribe
from pipeline.broker.admin import Admin
from pipeline.broker.client import new_client
from pipeline.core import events
from pipeline.core.errors import PipelineError
from pipeline.core.log import get_logger
from pipeline.core.retry import keep_trying
from pipeline.core.settings import PulsarSettings

SUBSCRIPTION = "writer"
# Messages that wait in the client's memory for a lone topic. With n topics each has n ** 1.5 times fewer, at least 8:
# the broker fills these places with *entries*, and an entry may be a batch of hundreds of messages. Behind a backlog of
# 1 M trades over 20 topics a writer took 312 MB with 50 places a topic, 160 MB with 10; a lone topic of single trades
# went through at 58 k/s with 1000 places, at 48 k/s with 200. Hours of quotes are some 100 kB each.
QUEUED_SMALL = 1_000
QUEUED_WHOLE = 96
QUEUED_LEAST = 8
# The places are dealt out when the subscription is made: with four times as many topics as then, it is made again.
GROWN = 4
# Small messages are taken from the client so many at a time: one by one they cost 3.5 us each, so 2.7.
CHUNK = 100
CHUNK_BYTES = 1 << 20
# How long a lone message waits for company.
LINGER_MS = 4
# Failed calls in a row after which the subscription is called broken.
BROKEN_AFTER = 5
MOST_LAYOUTS = 1_000  # schema versions that are remembered


@dataclass(slots=True)  # frozen, its making takes four times as long
class Message:
    """A message as it came. Only its id is kept of the client's object, which weighs a kilobyte more."""

    topic: str
    data: bytes
    id: Any
    layout: schemas.Layout = None

    @property
    def id_text(self) -> str:
        return str(self.id)


class Subscription:
    """Receives from `<tenant>/<namespace>/*`. Used by one reading thread; `acknowledge` may come from another."""

    def __init__(
        self,
        settings: PulsarSettings,
        namespace: str,
        stop: threading.Event,
        *,
        schema: str,
        whole: bool = False,
        careful: int = 0,
    ) -> None:
        """`careful`: how often the last processes died; each time a quarter of the messages is held in memory."""
        self.namespace = namespace
        self._schema = schema
        self._settings = settings
        self._stop = stop
        self._queued = (QUEUED_WHOLE if whole else QUEUED_SMALL) >> 2 * careful
        self._least = QUEUED_LEAST if not careful else 1
        self.chunk = 1 if whole else CHUNK
        self._client: Any = None
        self._consumer: Any = None
        self._subscribed_to = 0
        self._layouts: dict[tuple[str, int], schemas.Layout] = {}
        self._failures = 0
        self.topics: set[str] = set()
        self.trouble: str | None = None
        """What is wrong with the subscription at the moment."""

    def open(self) -> bool:
        """Subscribe; waits for the broker. False when stopped meanwhile."""
        return bool(
            keep_trying(
                f"subscription to {self.namespace}",
                self._subscribe,
                self._stop,
                retry_on=(pulsar.PulsarException, PipelineError),
                event=events.BROKER_RETRY,
            )
        )

    def _subscribe(self) -> bool:
        try:
            self._client = new_client(self._settings)
            space = f"{self._settings.tenant}/{self.namespace}"
            with contextlib.suppress(PipelineError):
                self.topics.update(Admin(self._settings).topics(space))
            self._subscribed_to = len(self.topics)
            self._consumer = subscribe(
                self._client,
                re.compile(f"{space}/.*"),  # not escaped: the client takes it for a topic name first and refuses "\\-"
                SUBSCRIPTION,
                places=max(self._least, int(self._queued / max(1, self._subscribed_to) ** 1.5)),
                batch=pulsar.ConsumerBatchReceivePolicy(self.chunk, CHUNK_BYTES, LINGER_MS),
            )
        except Exception as error:
            self.trouble = f"no subscription to {self.namespace}: {error}"
            self._leave()
            raise
        self._failures, self.trouble = 0, None
        return True

    def _leave(self) -> None:
        """Let go of the client. Beside us: closing what is broken may take its time, or fail."""
        client, self._client, self._consumer = self._client, None, None
        if client is not None:
            threading.Thread(target=_closed, args=(client,), name="close", daemon=True).start()

    def receive(self, timeout_ms: int) -> Message | None:
        """The next message, or None after `timeout_ms`."""
        found = self._received(lambda: [self._consumer.receive(timeout_millis=timeout_ms)])
        return found[0] if found else None

    def receive_more(self) -> list[Message]:
        """What comes within `LINGER_MS`: at most `chunk` messages, and fewer only when no more are waiting."""
        if self.chunk == 1:
            message = self.receive(LINGER_MS)
            return [message] if message else []
        return self._received(self._consumer.batch_receive)

    def _received(self, ask: Callable[[], list[Any]]) -> list[Message]:
        try:
            handles = ask()
        except (pulsar.Timeout, pulsar.Interrupted):
            self._failures, self.trouble = 0, None
            return []
        except pulsar.PulsarException as error:
            self._failures += 1
            self.trouble = f"{self.namespace} cannot be received from: {error}"
            if self._failures == 1:
                get_logger().warning(events.BROKER_RETRY, on=self.namespace, error=str(error))
            self._stop.wait(0.2)
            return []
        self._failures, self.trouble = 0, None
        return [self._message(handle) for handle in handles]

    def _message(self, handle: Any) -> Message:
        topic = sys.intern(handle.topic_name())  # one text per topic: a batch holds tens of thousands of messages
        version = handle._message.int_schema_version()
        try:
            layout = self._layouts[topic, version]
        except KeyError:
            layout = self._layout(topic, version)
        return Message(topic, handle.data(), handle.message_id(), layout)

    def _layout(self, topic: str, version: int) -> schemas.Layout:
        """How to read what was written with this version of the topic's schema; asked of the broker once."""
        self.topics.add(topic)
        layout: schemas.Layout = None  # a message without a schema is taken for one of ours
        if version >= 0:
            try:
                written = self._client._client.get_schema_info(topic, version).schema()
            except pulsar.PulsarException as error:  # the topic is gone: what it held is read as ours, or not at all
                get_logger().warning(events.BROKER_RETRY, on=f"schema {version} of {topic}", error=str(error))
                return None
            layout = schemas.layout(self._schema, written)
        if len(self._layouts) >= MOST_LAYOUTS:
            self._layouts.clear()
        self._layouts[topic, version] = layout
        return layout

    def renew(self) -> None:
        """Subscribe anew where the subscription is broken, or was made for far fewer topics.

        What was received and not acknowledged comes again, which the ledger makes harmless.
        """
        if self._failures < BROKEN_AFTER and len(self.topics) < GROWN * max(1, self._subscribed_to):
            return
        get_logger().info(events.TOPICS_READ, namespace=self.namespace, topics=len(self.topics))
        self._leave()
        self.open()

    def acknowledge(self, last_of_topic: dict[str, Message]) -> None:
        """Acknowledge everything up to these messages. A failure only means that they come again."""
        consumer = self._consumer
        for message in last_of_topic.values() if consumer is not None else ():
            try:
                consumer.acknowledge_cumulative(message.id)
            except (pulsar.PulsarException, ValueError) as error:
                get_logger().warning(events.BROKER_RETRY, on=message.topic, error=str(error))

    def close(self) -> None:
        if self._client is not None:
            _closed(self._client)


def _closed(client: pulsar.Client) -> None:
    with contextlib.suppress(pulsar.PulsarException):  # already closed, or no broker
        client.close()
