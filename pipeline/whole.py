"""Messages of any size: small ones share an entry of the broker, large ones are sent in chunks.

A Pulsar producer batches or chunks, not both, so there are two. The broker works as much for an entry of one hour of
quotes as for an entry of ten; docs/benchmarks.md has what sharing gave.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import pulsar

import schemas
from pipeline.errors import Unavailable
from pipeline.publisher import Publisher

# Bytes before compression. The broker takes 5 MB at most; a batch ends where it would grow beyond its limit.
LARGE = 1 << 20
BATCH = 512 << 10
# How long a message waits for company, ms: the few that are read in this time share an entry.
LINGER_MS = 10


class WholePublisher(Publisher):
    """A publisher of records of any size. One beyond `LARGE` is sent while nothing else is on its way.

    A reader acknowledges up to a message. Were a small one sent between two chunks, it would acknowledge the first
    chunk with it, and a reader that starts again would never have the whole.
    """

    def __init__(
        self, connect: Callable[..., pulsar.Producer], topic: str, schema: str, name: str, max_pending: int,
        stop: threading.Event,
    ) -> None:  # fmt: skip
        """`connect(name, **options)` waits for a producer and raises `Unavailable` when stopped meanwhile."""
        sharing = connect(
            name,
            batching_enabled=True,
            batching_max_publish_delay_ms=LINGER_MS,
            batching_max_allowed_size_in_bytes=BATCH,
        )
        super().__init__(sharing, topic, max_pending, stop)
        self._encode = schemas.registered(schema).encode
        self._connect_large = partial(connect, f"{name}-large", batching_enabled=False, chunking_enabled=True)
        self._large: pulsar.Producer | None = None
        self._connecting = threading.Lock()
        self._turn = threading.Lock()

    def send(
        self, record: Mapping[str, Any] | bytes, *, key: str | None = None, wait: bool = False,
        on_confirmed: Callable[[], None] | None = None,
    ) -> bool:  # fmt: skip
        data = self._encode(record)
        hand_over = partial(super().send, data, key=key, wait=wait, on_confirmed=on_confirmed)
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
        """Wait until the broker has everything; False when stopped meanwhile."""
        while self.pending and not self._stop.is_set():
            self.flush(0.2)
        return not self.pending

    def _with_large(self) -> bool:
        """Connect the second producer at the first need: few topics have one, and to have it ready took 2 % of a short
        load's time. Not under the lock of `send`: the client's thread may wait for that one."""
        with self._connecting:
            if self._large is None:
                try:
                    large = self._connect_large()
                except Unavailable:
                    return False
                with self._room:
                    self._sequence_id = max(self._sequence_id, large.last_sequence_id())
                self._large = large
        return True

    def _producer_of(self, record: Mapping[str, Any] | bytes) -> pulsar.Producer:
        return self._large if len(record) > LARGE else self._producer

    def connected(self) -> bool:
        return super().connected() and (self._large is None or bool(self._large.is_connected()))

    def close(self) -> None:
        super().close()
        if self._large is not None:
            with suppress(pulsar.PulsarException):  # as above
                self._large.close()
