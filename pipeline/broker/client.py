"""Client of the broker, and publishers, which create new topics with their schema."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pulsar

import schemas
from pipeline.broker.admin import Admin
from pipeline.broker.auth import authorities_of, shown, token_of
from pipeline.broker.budget import Budget
from pipeline.broker.chunked_publisher import WholePublisher
from pipeline.broker.client_log import client_logger
from pipeline.broker.opener import Opener
from pipeline.broker.publisher import Publisher, Record
from pipeline.broker.topics import topic_of
from pipeline.core import events
from pipeline.core.admission import let_in, shut_out
from pipeline.core.errors import BadData, Refused, Unavailable, WrongUse
from pipeline.core.log import get_logger
from pipeline.core.retry import keep_trying
from pipeline.core.settings import PulsarSettings

CLOSE_S = 1.0
# Most messages in one entry of the broker. A reader holds one or two entries per topic in memory, at 2.6 kB per
# message. Measured with a backlog of 500,000 trades over 20 topics in messages of five: a writer needs 210 MB with
# entries of up to 500 messages (128 kB), 181 MB with 200; the broker's CPU time does not differ beyond the noise.
MOST_IN_ENTRY = 200
# Errors of a single topic, which may be fixed while we run.
_OF_THE_TOPIC = (
    pulsar.TopicTerminated,
    pulsar.TopicNotFound,
    pulsar.ProducerBlockedQuotaExceededError,
    pulsar.ProducerBlockedQuotaExceededException,
    pulsar.ProducerFenced,
    pulsar.NotAllowedError,
    pulsar.OperationNotSupported,
)


def new_client(settings: PulsarSettings) -> pulsar.Client:
    """Create a Pulsar client. It connects when first used, and logs errors only."""
    return pulsar.Client(
        settings.service_url,
        # The function is called for each connection.
        authentication=None if token_of(settings) is None else pulsar.AuthenticationToken(lambda: token_of(settings)),
        tls_trust_certs_file_path=authorities_of(settings),
        tls_validate_hostname=True,
        operation_timeout_seconds=10,
        # The client's own statistics go to its log and cost 1 us per message; ours are in /metrics.
        stats_interval_in_seconds=0,
        logger=client_logger(),
    )


class Bus:
    """A client and its publishers, which share a memory budget. One per process. Thread-safe."""

    def __init__(self, settings: PulsarSettings, stop: threading.Event, *, budget_bytes: int | None = None) -> None:
        self.settings = settings
        self._stop = stop
        self.client = new_client(settings)
        self._admin = Admin(settings)
        self.budget = Budget(settings.pending_mb << 20 if budget_bytes is None else budget_bytes)
        self._opener = Opener(stop)
        self._token = secrets.token_hex(4)

    def own_name(self, name: str) -> str:
        """Return a producer name unique across processes and machines, for topics with many producers."""
        return f"{name}-{self._token}"

    def publisher(
        self,
        namespace: str,
        venue: str,
        product_id: str,
        schema: str,
        name: str,
        *,
        whole: bool = False,
        max_pending: int = 20_000,
        lazy: bool = False,
    ) -> Publisher:
        """Return a publisher for a product's topic, which is created if it is new.

        `name` and topic identify the producer to the broker's deduplication; a second process with the same name waits
        until the first is gone. `whole`: for messages of any size (`pipeline.broker.chunked_publisher`), otherwise for
        many small ones. See `publisher_to` for `lazy` and errors.
        """
        topic = topic_of(self.settings.tenant, namespace, venue, product_id)
        return self.publisher_to(
            topic,
            schema,
            name,
            whole=whole,
            max_pending=max_pending,
            lazy=lazy,
            create=True,
            labels=(venue, product_id),
        )

    def publisher_to(
        self,
        topic: str,
        schema: str,
        name: str,
        *,
        whole: bool = False,
        max_pending: int = 20_000,
        lazy: bool = False,
        create: bool = False,
        labels: tuple[str, str] | None = None,
    ) -> Publisher:
        """Return a publisher for a topic given by its full name.

        `lazy`: return at once and open it in the background, so that this topic cannot hold up others. Otherwise wait
        for the broker; raises `Unavailable` only if stopped meanwhile, and `Refused` or `WrongUse` for what the broker
        will never accept. A topic that is terminated or over its quota is opened in the background in any case.
        """
        record_schema = schemas.registered(schema)
        connect = partial(self._connect, topic, schema, max_pending, create)
        shared = (max_pending, self._stop, self.budget, self._opener, labels or ("", "/".join(topic.split("/")[-2:])))
        publisher: Publisher
        if whole:
            publisher = WholePublisher(connect, topic, _encoder(record_schema.encode), name, *shared)
        else:
            # Without delay, a live trade is sent as soon as the client's thread gets to it, together with what was
            # queued meanwhile. Measured with bare clients: it is stored 2.3 ms earlier than with a delay of 2 ms. The
            # entries of a backlog become smaller, which costs the writer 0.5 us per trade (20 topics are drained at 199
            # to 228 k/s, with a delay of 1 ms at 244 to 260).
            once = partial(
                connect,
                name,
                batching_enabled=True,
                batching_max_publish_delay_ms=0,
                batching_max_messages=MOST_IN_ENTRY,
            )
            publisher = Publisher(once, topic, _encoder(record_schema.encode), *shared)
        self._opener.start()
        if lazy:
            publisher.open_later()
        else:
            self._open(publisher, name)
        return publisher

    def _open(self, publisher: Publisher, name: str) -> None:
        def attempt() -> bool:
            try:
                publisher.open()
            except _OF_THE_TOPIC as error:
                publisher.failing(error)
            return True

        retry_on = (pulsar.PulsarException, Unavailable)
        what = f"producer {name} on {publisher.topic}"
        if keep_trying(what, attempt, self._stop, retry_on=retry_on, event=events.BROKER_RETRY) is None:
            raise Unavailable("stopped while waiting for the broker")

    def dead_threads(self) -> list[str]:
        """Return the names of threads that have died, for `/health`."""
        return self._opener.dead()

    def _connect(
        self, topic: str, schema: str, max_pending: int, create: bool, name: str, **options: Any
    ) -> pulsar.Producer:
        """Make one attempt to create the producer."""
        if create:
            self._ensure_topic(topic)
        try:
            made = self.client.create_producer(
                topic,
                producer_name=f"{name}/{topic.rsplit('/', 1)[-1]}",
                schema=schemas.registered(schema),
                send_timeout_millis=0,  # resend forever, so that no message is given up silently
                max_pending_messages=max_pending + 1,  # our own limit applies first
                compression_type=pulsar.CompressionType.LZ4,
                **options,
            )
        except pulsar.IncompatibleSchema:
            raise Refused(
                f"topic {topic} has a schema incompatible with {schema}.avsc; a field may only be added with a default."
            ) from None
        except pulsar.InvalidTopicName as error:
            raise WrongUse(f"the broker refuses {topic}: {error}.") from None
        except (pulsar.AuthenticationError, pulsar.AuthorizationError) as error:
            text = f"the broker refuses {topic}: {error}; check the permissions of PULSAR_TOKEN."
            raise shut_out(shown("topics", self.settings), text) from None
        let_in(shown("topics", self.settings))
        return made

    def _ensure_topic(self, topic: str) -> None:
        try:
            if self._admin.create_topic(topic, self.settings.topic_partitions):
                get_logger().info(events.TOPIC_CREATED, topic=topic)
        except Refused as error:
            get_logger().warning(events.POLICY_MISSING, what=topic, error=str(error))

    def close(self, within_s: float = CLOSE_S) -> None:
        """Close everything. Pending messages are lost unless `Publisher.flush` was called before.

        The client waits for the broker's answer for each producer, up to its operation timeout of 10 s: longer than a
        program has for its shutdown. What is not closed within `within_s` ends with the process.
        """

        def close() -> None:
            with suppress(pulsar.PulsarException):  # already closed, or the broker is gone
                self.client.close()

        self._opener.close()
        closing = threading.Thread(target=close, name="close", daemon=True)
        closing.start()
        closing.join(within_s)


def _encoder(encode: Callable[[Record], bytes]) -> Callable[[Record], bytes]:
    """Wrap `encode` to raise `BadData("encoding")` for records that it cannot encode."""

    def safe(record: Record) -> bytes:
        try:
            return encode(record)
        except Exception as error:  # fastavro raises many types
            raise BadData("encoding", f"{type(error).__name__}: {error}") from None

    return safe
