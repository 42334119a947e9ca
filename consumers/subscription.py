"""A subscription to all topics of a namespace: receive messages, acknowledge what is stored.

The subscription is named `writer` and is of type Failover: several processes share the topics, each topic has one
reader at a time, and the order within a topic is kept, so that one cumulative acknowledgement per topic and batch
suffices. Topics may be created and deleted at any time: the client discovers new ones every second, and a broken
subscription is replaced, on a new client.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import _pulsar
import msgspec
import pulsar

import schemas
from consumers.pattern import refusals, subscribe
from pipeline.broker.admin import Admin
from pipeline.broker.client import new_client
from pipeline.core import events
from pipeline.core.errors import PipelineError
from pipeline.core.log import get_logger
from pipeline.core.retry import keep_trying
from pipeline.core.settings import PulsarSettings

SUBSCRIPTION = "writer"
# Receiver queue size for a single topic. With n topics each gets n ** 1.5 times less, at least 8: the broker fills the
# queue with *entries*, and an entry may be a batch of hundreds of messages. Measured: with a backlog of 1 M trades on
# 20 topics a writer needed 312 MB with a queue of 50 per topic, 160 MB with 10; a single topic of single trades was
# read at 58 k/s with 1000, at 48 k/s with 200. Hours of quotes are some 100 kB each.
QUEUED_SMALL = 1_000
QUEUED_WHOLE = 96
QUEUED_LEAST = 8
# The queue size is fixed when subscribing: subscribe again once there are four times as many topics.
GROWN = 4
# Small messages are received in chunks of this size. Measured: one by one they cost 3.5 us each, in chunks 2.7.
CHUNK = 100
CHUNK_BYTES = 1 << 20
# How long a single message waits for further ones. Measured with 982 frames/s: with 4 ms p50 from received to stored is
# 13.5 ms, with 1 ms 9.7 ms, at equal CPU time.
LINGER_MS = 1
# How long acknowledgements are collected; the client collects them for as long again. Measured with 982 frames/s of ten
# products: acknowledging every batch cost this process 5 us and the broker 10 us more per frame.
SETTLE_S = 0.1
# Consecutive failed calls after which the subscription is considered broken.
BROKEN_AFTER = 5
SMALL = 2_000  # bytes; a message up to this size is kept as the client's object too
MOST_LAYOUTS = 1_000  # cached schema versions


class Message(msgspec.Struct, gc=False):
    """A received message. 5,000 are created per batch: a dataclass would take three times as long."""

    topic: str
    data: bytes
    handle: Any
    """The client's message if it is `SMALL`, otherwise its id. Getting an id takes 0.7 us, and few are needed."""
    layout: schemas.Layout = None
    """How its schema version differs from ours; None if it does not."""

    @property
    def id_text(self) -> str:
        return str(self.handle.message_id() if isinstance(self.handle, _pulsar.Message) else self.handle)


class Subscription:
    """Receives from `<tenant>/<namespace>/*`. Used by one reading thread; `acknowledge` and `settle` may be called
    from another."""

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
        """Create it unsubscribed. `whole`: its messages are large. `careful`: number of preceding crashes, each of
        which reduces the queue in memory to a quarter."""
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
        self._lost = False
        self._stored: dict[str, Message] = {}  # by topic: the last one stored, not yet acknowledged
        self._settled_at = 0.0
        self.topics: set[str] = set()
        self.trouble: str | None = None
        """The current problem of the subscription; None: none."""

    def open(self) -> bool:
        """Subscribe, waiting for the broker. Returns False if stopped meanwhile."""
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
            there: list[str] = []
            with contextlib.suppress(PipelineError):
                there = Admin(self._settings).topics(space)
            self.topics.update(there)
            self._subscribed_to = len(self.topics)
            make = partial(
                subscribe,
                self._client,
                space,
                SUBSCRIPTION,
                queue_size=max(self._least, int(self._queued / max(1, self._subscribed_to) ** 1.5)),
                batch=pulsar.ConsumerBatchReceivePolicy(self.chunk, CHUNK_BYTES, LINGER_MS),
            )
            try:
                self._consumer = make()
            except pulsar.PulsarException:
                refused = _refusing_topics(self._client, there)
                if not refused:  # not the fault of a single topic
                    raise
                self._consumer = make(excluding=refused)
        except Exception as error:
            self.trouble = f"no subscription to {self.namespace}: {error}"
            self._abandon_client()
            raise
        self._failures, self.trouble = 0, None
        return True

    def _abandon_client(self) -> None:
        """Abandon the client. It is closed in another thread: closing a broken one may take long, or fail."""
        client, self._client, self._consumer = self._client, None, None
        if client is not None:
            threading.Thread(target=_close, args=(client,), name="close", daemon=True).start()

    def receive(self, timeout_ms: int) -> Message | None:
        """Return the next message, or None after `timeout_ms`."""
        consumer = self._consumer
        found = self._receive(lambda: [consumer.receive(timeout_ms)])
        return found[0] if found else None

    def receive_more(self) -> list[Message]:
        """Return what arrives within `LINGER_MS`: `chunk` messages, or fewer if no more are waiting."""
        if self.chunk == 1:
            message = self.receive(LINGER_MS)
            return [message] if message else []
        return self._receive(self._consumer.batch_receive)

    def _receive(self, ask: Callable[[], list[Any]]) -> list[Message]:
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
        topic = sys.intern(handle.topic_name())  # one string per topic: a batch has thousands of messages
        data, version = handle.data(), handle.int_schema_version()
        try:
            layout = self._layouts[topic, version]
        except KeyError:
            layout = self._layout(topic, version)
        # The client's message holds a second copy of the data.
        return Message(topic, data, handle if len(data) < SMALL else handle.message_id(), layout)

    def _layout(self, topic: str, version: int) -> schemas.Layout:
        """Return the layout of messages written with this schema version of the topic; the broker is asked once."""
        self.topics.add(topic)
        layout: schemas.Layout = None  # a message without a schema is assumed to have ours
        if version >= 0:
            try:
                written = self._client._client.get_schema_info(topic, version).schema()
            except pulsar.PulsarException as error:  # the topic is gone: assume our schema
                get_logger().warning(events.BROKER_RETRY, on=f"schema {version} of {topic}", error=str(error))
                return None
            layout = schemas.layout(self._schema, written)
        if len(self._layouts) >= MOST_LAYOUTS:
            self._layouts.clear()
        self._layouts[topic, version] = layout
        return layout

    def renew(self) -> bool:
        """Subscribe again if the subscription is broken, has lost topics, or was made for far fewer topics. Returns
        False if stopped meanwhile.

        Messages received but not acknowledged are delivered again, which the ledger makes harmless.
        """
        grown = len(self.topics) >= GROWN * max(1, self._subscribed_to)
        if not (self._lost or grown or self._failures >= BROKEN_AFTER):
            return True
        self._lost = False
        get_logger().info(events.TOPICS_READ, namespace=self.namespace, topics=len(self.topics))
        self._abandon_client()
        return self.open()

    def recover(self, topics: Sequence[str]) -> None:
        """Make the next `renew` subscribe again, because nobody reads these topics, unless they still refuse.
        Thread-safe."""
        client = self._client
        if client is None or self._consumer is None:  # subscribing right now
            return
        for topic in set(topics) - _refusing_topics(client, topics).keys():
            get_logger().warning(events.TOPIC_UNREAD, topic=topic)
            self._lost = True

    def acknowledge(self, last_of_topic: dict[str, Message]) -> None:
        """Record that everything up to these messages is stored. The broker is told by `settle`, which is called here
        once `SETTLE_S` have passed since the last time."""
        self._stored |= last_of_topic
        if time.monotonic() - self._settled_at >= SETTLE_S:
            self.settle()

    def settle(self) -> None:
        """Acknowledge what is stored. After a failure it is delivered again, which is harmless."""
        stored, self._stored = self._stored, {}
        self._settled_at = time.monotonic()
        consumer = self._consumer
        for message in stored.values() if consumer is not None else ():
            try:
                consumer.acknowledge_cumulative(message.handle)
            except (pulsar.PulsarException, ValueError) as error:
                get_logger().warning(events.BROKER_RETRY, on=message.topic, error=str(error))

    def close(self) -> None:
        if self._client is not None:
            _close(self._client)


def _refusing_topics(client: pulsar.Client, topics: Sequence[str]) -> dict[str, str]:
    """Return the topics that refuse a subscription, with the error: they must not keep us from the others."""
    found = refusals(client, topics, SUBSCRIPTION)
    for topic, error in found.items():
        get_logger().warning(events.TOPIC_REFUSED, topic=topic, error=error)
    return found


def _close(client: pulsar.Client) -> None:
    with contextlib.suppress(pulsar.PulsarException):  # already closed, or no broker
        client.close()
