"""One subscription over all topics of a namespace: receive, and acknowledge what is stored.

The subscription is called `writer` and is Failover: several processes share the topics, each topic has one reader at
a time, and the order within a topic is kept, so that one cumulative acknowledgement per topic and batch is enough.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pulsar

import schemas
from pipeline import events
from pipeline.admin import Admin
from pipeline.bus import new_client
from pipeline.errors import PipelineError
from pipeline.log import get_logger
from pipeline.process import keep_trying
from pipeline.settings import PulsarSettings
from pipeline.topics import TOPICS_TOPIC, full_name

SUBSCRIPTION = "writer"
# Messages that wait in the client's memory for a lone topic. With n topics each has n ** 1.5 times fewer, at least 8:
# the broker fills these places with *entries*, and an entry may be a batch of hundreds of messages. Behind a backlog of
# 1 M trades over 20 topics a writer took 312 MB with 50 places a topic, 160 MB with 10; a lone topic of single trades
# went through at 58 k/s with 1000 places, at 48 k/s with 200. Hours of quotes are some 100 kB each.
QUEUED_SMALL = 1_000
QUEUED_WHOLE = 96
# Small messages are taken from the client so many at a time: one by one they cost 3.5 us each, so 2.7.
CHUNK = 100
CHUNK_BYTES = 1 << 20
# How long a lone message waits for company.
LINGER_MS = 4


@dataclass(slots=True)  # frozen, its making takes four times as long
class Message:
    """A message as it came. Only its id is kept of the client's object, which weighs a kilobyte more."""

    topic: str
    data: bytes
    id: Any

    @property
    def id_text(self) -> str:
        return str(self.id)


class Inbox:
    """Receives from `<tenant>/<namespace>/*`. Used by one reading thread; `acknowledge` may come from another."""

    def __init__(
        self, settings: PulsarSettings, namespace: str, stop: threading.Event, *, whole: bool = False, name: str = ""
    ) -> None:
        self.namespace = namespace
        self._settings = settings
        self._stop = stop
        self._queued = QUEUED_WHOLE if whole else QUEUED_SMALL
        self.chunk = 1 if whole else CHUNK
        self._name = name
        self._client = new_client(settings)
        self._consumer: Any = None
        self._announcements: Any = None
        self._announced: deque[str] = deque()
        self.topics: set[str] = set()

    def open(self) -> bool:
        """Subscribe; waits for the broker. False when stopped meanwhile."""
        return bool(
            keep_trying(
                f"subscription to {self.namespace}",
                self._subscribe,
                self._stop,
                retry_on=(pulsar.PulsarException,),
                event=events.BROKER_RETRY,
            )
        )

    def _subscribe(self) -> bool:
        space = f"{self._settings.tenant}/{self.namespace}"
        if self._announcements is None:
            self._announcements = self._client.create_reader(
                full_name(self._settings.tenant, "control", TOPICS_TOPIC),
                pulsar.MessageId.latest,
                schema=schemas.registered("topic"),
                reader_listener=lambda _, message: self._announced.append(message.value()["topic"]),
            )
        if self._consumer is None:
            self.topics.update(self._existing(space))
        self._consumer = self._client.subscribe(
            re.compile(f"{space}/.*"),  # not escaped: the client takes it for a topic name first and refuses "\\-"
            SUBSCRIPTION,
            consumer_type=pulsar.ConsumerType.Failover,
            consumer_name=self._name or None,
            initial_position=pulsar.InitialPosition.Earliest,
            receiver_queue_size=max(8, int(self._queued / max(1, len(self.topics)) ** 1.5)),
            max_total_receiver_queue_size_across_partitions=self._queued,
            batch_receive_policy=pulsar.ConsumerBatchReceivePolicy(self.chunk, CHUNK_BYTES, LINGER_MS),
        )
        return True

    def _existing(self, space: str) -> list[str]:
        """Topics that are there now: after a start none has been heard from, and each would get the whole queue."""
        try:
            return Admin(self._settings).topics(space)
        except PipelineError:
            return []

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
            return []
        except pulsar.PulsarException as error:
            get_logger().warning(events.BROKER_RETRY, on=self.namespace, error=str(error))
            self._stop.wait(0.5)
            return []
        found = []
        for handle in handles:
            topic = sys.intern(handle.topic_name())  # one text per topic: a batch holds tens of thousands of messages
            found.append(Message(topic, handle.data(), handle.message_id()))
        self.topics.update(message.topic for message in found)
        return found

    def new_topics(self) -> bool:
        """Whether a topic of this namespace was announced that we have not heard from; asks nobody."""
        before = len(self.topics)
        while self._announced:
            topic = self._announced.popleft()
            if f"/{self.namespace}/" in topic:
                self.topics.add(topic)
        return len(self.topics) > before

    def subscribe_again(self) -> None:
        """Find new topics at once (the client looks for them only every 60 s).

        What was received and not acknowledged comes again, which the ledger makes harmless.
        """
        self._consumer.close()
        get_logger().info(events.TOPICS_READ, namespace=self.namespace, topics=len(self.topics))
        self.open()

    def acknowledge(self, last_of_topic: dict[str, Message]) -> None:
        """Acknowledge everything up to these messages. A failure only means that they come again."""
        for message in last_of_topic.values():
            try:
                self._consumer.acknowledge_cumulative(message.id)
            except pulsar.PulsarException as error:
                get_logger().warning(events.BROKER_RETRY, on=message.topic, error=str(error))

    def close(self) -> None:
        with contextlib.suppress(pulsar.PulsarException):  # already closed, or no broker
            self._client.close()
