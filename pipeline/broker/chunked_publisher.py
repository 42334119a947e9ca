"""Publish messages of any size: small ones are batched, large ones are sent in chunks.

A Pulsar producer either batches or chunks, so there are two. An entry of ten hours of quotes costs the broker as much
as an entry of one; docs/benchmarks.md shows what batching gained.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pulsar

from pipeline.broker.budget import Budget
from pipeline.broker.link import Link
from pipeline.broker.opener import Opener
from pipeline.broker.publisher import Publisher, Record
from pipeline.core import events
from pipeline.core.retry import keep_trying

# Bytes before compression. The broker's limit is 5 MB; a batch ends before it would exceed its limit.
LARGE = 1 << 20
BATCH = 512 << 10
# How long a batch waits for more messages, in ms.
LINGER_MS = 10


class WholePublisher(Publisher):
    """A publisher of records of any size. A record larger than `LARGE` is sent while nothing else is pending.

    Readers acknowledge cumulatively. If a small message were between two chunks, acknowledging it would acknowledge the
    first chunk too, and a restarted reader would never get the complete message.
    """

    def __init__(
        self,
        connect: Callable[..., pulsar.Producer],
        topic: str,
        encode: Callable[[Record], bytes],
        name: str,
        max_pending: int,
        stop: threading.Event,
        budget: Budget,
        opener: Opener,
        labels: tuple[str, str],
    ) -> None:
        """`connect(name, **options)` makes one attempt to create a producer."""
        sharing = partial(
            connect,
            name,
            batching_enabled=True,
            batching_max_publish_delay_ms=LINGER_MS,
            batching_max_allowed_size_in_bytes=BATCH,
        )
        super().__init__(sharing, topic, encode, max_pending, stop, budget, opener, labels)
        self._connect_large = partial(connect, f"{name}-large", batching_enabled=False, chunking_enabled=True)
        self._connecting = threading.Lock()
        self._turn = threading.Lock()

    def _hand_over(self, data: bytes, key: str | None, wait: bool, on_confirmed: Callable[[], None] | None) -> bool:
        hand_over = partial(super()._hand_over, data, key, wait, on_confirmed)
        if len(data) <= LARGE:
            with self._turn:
                return hand_over()
        if not self._with_large():
            return False
        with self._turn:
            sent = self._nothing_pending() and hand_over()
            self._nothing_pending()
        return sent

    def _nothing_pending(self) -> bool:
        """Wait until everything is confirmed; returns False if stopped meanwhile."""
        while self.pending and not self._stop.is_set():
            self.flush(0.2)
        return not self.pending

    def _with_large(self) -> bool:
        """Connect the second producer when first needed: few topics need one, and connecting it in advance took 2 % of
        a short load's time. Not under the lock of `send`, which the client's thread may wait for."""
        with self._connecting:
            link = self._link
            if link is None or link.large is not None:
                return True  # `_hand_over` waits for the link
            large: pulsar.Producer | None = keep_trying(
                f"producer for large messages on {self.topic}",
                lambda: None if self._link is not link else self._connect_large(),
                self._stop,
                retry_on=(pulsar.PulsarException,),
                event=events.BROKER_RETRY,
            )
            if large is None:
                return not self._stop.is_set()
            with self._room:
                self._sequence_id = max(self._sequence_id, large.last_sequence_id())
                link.large = large
        return True

    def _producer_of(self, link: Link, data: bytes) -> pulsar.Producer:
        """Return the producer for a message. If the link was replaced since `_with_large`, a large message fails as
        too big."""
        return link.large if len(data) > LARGE and link.large is not None else link.producer
