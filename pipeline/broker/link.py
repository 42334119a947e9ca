"""A producer and its unconfirmed messages."""

from __future__ import annotations

from contextlib import suppress

import pulsar


class Link:
    """A producer of the client and the messages pending on it."""

    def __init__(self, producer: pulsar.Producer) -> None:
        self.producer = producer
        self.large: pulsar.Producer | None = None  # see `pipeline.broker.chunked_publisher`
        self.pending = 0
        self.bytes = 0
        self.over = False  # pending messages are accounted for: later confirmations are ignored

    def close(self) -> None:
        for producer in (self.producer, self.large):
            if producer is not None:
                with suppress(pulsar.PulsarException):  # already closed, or no broker
                    producer.close()
