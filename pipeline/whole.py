"""A producer for messages of any size: small ones share an entry of the broker, large ones are sent in chunks.

A Pulsar producer batches or chunks, not both, so there are two under one roof. The broker works as much for an entry of
one hour of quotes as for an entry of ten; docs/benchmarks.md has what sharing gave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pulsar

import schemas

# Bytes before compression. The broker takes 5 MB at most; a batch ends where it would grow beyond its limit.
LARGE = 1 << 20
BATCH = 512 << 10
# How long a message waits for company, ms: the few that are read in this time share an entry.
LINGER_MS = 10


class WholeProducer:
    """Looks like a `pulsar.Producer`. Messages of the two ways may overtake each other."""

    def __init__(self, create: Callable[..., pulsar.Producer], name: str, schema: str) -> None:
        """`create(name, **options)` makes a producer; both are made now. Raises what it raises."""
        self._encode = schemas.registered(schema).encode
        self._small = create(
            name,
            schema=schemas.registered(schema),
            batching_enabled=True,
            batching_max_publish_delay_ms=LINGER_MS,
            batching_max_allowed_size_in_bytes=BATCH,
        )
        try:
            self._large = create(
                f"{name}-large", schema=schemas.registered(schema), batching_enabled=False, chunking_enabled=True
            )
        except pulsar.PulsarException:
            self._small.close()  # its name is taken as long as it is open
            raise

    def send_async(self, record: Mapping[str, Any] | bytes, callback: Callable[..., None], **options: Any) -> None:
        data = self._encode(record)
        producer = self._large if len(data) > LARGE else self._small
        producer.send_async(data, callback, **options)

    def last_sequence_id(self) -> int:
        return int(max(self._small.last_sequence_id(), self._large.last_sequence_id()))

    def is_connected(self) -> bool:
        return bool(self._small.is_connected() and self._large.is_connected())

    def close(self) -> None:
        try:
            self._small.close()
        finally:
            self._large.close()
