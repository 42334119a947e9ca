"""A client of the broker, and publishers onto topics that are made where they are new, with their schema."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import pulsar

import schemas
from pipeline import events
from pipeline.access import authorities_of, token_of
from pipeline.admin import Admin
from pipeline.client_log import client_logger
from pipeline.errors import Refused, Unavailable, WrongUse
from pipeline.log import get_logger
from pipeline.process import keep_trying
from pipeline.publisher import Publisher
from pipeline.settings import PulsarSettings
from pipeline.topics import topic_of
from pipeline.whole import WholePublisher

_FINAL = (pulsar.AuthenticationError, pulsar.AuthorizationError, pulsar.InvalidTopicName)


def new_client(settings: PulsarSettings) -> pulsar.Client:
    """A Pulsar client (lazy: connects when first used), silent but for errors."""
    return pulsar.Client(
        settings.service_url,
        # a function is asked at each connection
        authentication=None if token_of(settings) is None else pulsar.AuthenticationToken(lambda: token_of(settings)),
        tls_trust_certs_file_path=authorities_of(settings),
        tls_validate_hostname=True,
        operation_timeout_seconds=10,
        # The client's own statistics would go to its log and cost each message 1 us; ours are in /metrics.
        stats_interval_in_seconds=0,
        logger=client_logger(),
    )


class Bus:
    """One client of a process and its publishers."""

    def __init__(self, settings: PulsarSettings, stop: threading.Event) -> None:
        self.settings = settings
        self._stop = stop
        self.client = new_client(settings)
        self._admin = Admin(settings)

    def publisher(
        self, namespace: str, venue: str, product_id: str, schema: str, name: str, *, whole: bool = False,
        max_pending: int = 20_000,
    ) -> Publisher:  # fmt: skip
        """A publisher for one product's topic, which is created where it is new.

        `name` with the topic identifies the producer to the broker's deduplication; a second process with the same
        name waits until the first is gone. `whole`: messages of any size (`pipeline.whole`); otherwise many small ones.
        Waits for the broker; raises `Unavailable` only when stopped meanwhile.
        """
        topic = topic_of(self.settings.tenant, namespace, venue, product_id)
        if keep_trying("broker", lambda: self._ensure_topic(topic), self._stop, retry_on=(Unavailable,)) is None:
            raise Unavailable("stopped while waiting for the broker")
        return self.publisher_to(topic, schema, name, whole=whole, max_pending=max_pending)

    def publisher_to(
        self, topic: str, schema: str, name: str, *, whole: bool = False, max_pending: int = 20_000
    ) -> Publisher:
        """A publisher for a topic given by its full name."""
        connect = partial(self._connected, topic, schema, max_pending)
        if whole:
            return WholePublisher(connect, topic, schema, name, max_pending, self._stop)
        # a live trade waits at most 2 ms
        producer = connect(name, batching_enabled=True, batching_max_publish_delay_ms=2)
        return Publisher(producer, topic, max_pending, self._stop)

    def _connected(self, topic: str, schema: str, max_pending: int, name: str, **options: Any) -> pulsar.Producer:
        """A producer, however long it takes; raises `Unavailable` when stopped meanwhile."""
        producer = keep_trying(
            f"producer {name} on {topic}",
            lambda: self._connect(topic, schema, max_pending, name, options),
            self._stop,
            retry_on=(pulsar.PulsarException,),
            event=events.BROKER_RETRY,
        )
        if producer is None:
            raise Unavailable("stopped while waiting for the broker")
        return producer

    def _connect(
        self, topic: str, schema: str, max_pending: int, name: str, options: Mapping[str, Any]
    ) -> pulsar.Producer:
        try:
            return self.client.create_producer(
                topic,
                producer_name=f"{name}/{topic.rsplit('/', 1)[-1]}",
                schema=schemas.registered(schema),
                send_timeout_millis=0,  # resend for ever: what is given up would have to be noticed by somebody
                max_pending_messages=max_pending + 1,  # ours is the bound that counts
                compression_type=pulsar.CompressionType.LZ4,
                **options,
            )
        except pulsar.IncompatibleSchema:
            raise Refused(
                f"topic {topic} has a schema that {schema}.avsc does not fit; a field may only be added with a default."
            ) from None
        except _FINAL as error:
            raise WrongUse(f"the broker refuses {topic}: {error}; check the rights of PULSAR_TOKEN.") from None

    def _ensure_topic(self, topic: str) -> bool:
        try:
            if self._admin.create_topic(topic, self.settings.topic_partitions):
                get_logger().info(events.TOPIC_CREATED, topic=topic)
        except Refused as error:
            get_logger().warning(events.POLICY_MISSING, what=topic, error=str(error))
        return True

    def close(self) -> None:
        """Close everything; what is still pending is given `Publisher.flush` before, or lost."""
        with suppress(pulsar.PulsarException):  # already closed, or the broker is gone: nothing is left to do
            self.client.close()
