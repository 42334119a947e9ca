"""The reading thread of a namespace: receives, decodes and checks the next batch while this one is being stored."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from dataclasses import dataclass

from consumers.sink import MOST_PAYLOAD, Batch, MessageSlice, PreparedBatch, Sink
from consumers.subscription import Message, Subscription
from pipeline.core.errors import BadData

# A batch is handed over when the database is idle, at the latest with this many rows. With hours of quotes 5 k, 30 k
# and 100 k rows (348, 327, 406 k quotes/s on a busy machine) did not differ beyond its spread; larger ones take memory.
BATCH_ROWS = 30_000
# The same for messages of single rows, which are Python objects until they are columns: three batches are on their way.
# A backlog of 1 M trades over 20 topics: 10,000 rows 215 MB, 6,000 190 and 195, 5,000 160 and 186, at the same speed.
BATCH_SMALL_ROWS = 5_000
BATCH_BYTES = 16 << 20
# A message beyond this is refused unread. An hour of 300,000 quotes has 5 MB; a frame or page of rows has some 100 kB,
# and each byte of a hostile one may become 100 bytes of Python objects.
MOST_BYTES = 32 << 20
MOST_SMALL_BYTES = 4 << 20
# A new topic is waited for no longer than this while nothing comes.
IDLE_MS = 20


@dataclass
class Ready:
    """A batch to be stored. `prepared` is None where preparing it failed: one of its messages is to blame."""

    batch: Batch
    prepared: PreparedBatch | None
    error: Exception | None = None


class Reader(threading.Thread):
    """Fills `handover` with checked batches of one kind."""

    def __init__(
        self,
        subscription: Subscription,
        sink: Sink,
        handover: queue.Queue[Ready],
        idle: threading.Event,
        stop: threading.Event,
    ) -> None:
        super().__init__(name=f"read-{sink.namespace}", daemon=True)
        self._subscription = subscription
        self._sink = sink
        self._most_bytes = MOST_SMALL_BYTES if sink.divisible else MOST_BYTES
        self._handover = handover
        self._idle = idle
        self._stop_event = stop
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            if self._subscription.open():
                while not self._stop_event.is_set():
                    self._subscription.renew()
                    self._one_batch()
        except BaseException as error:
            self.failure = error
            raise

    def _one_batch(self) -> None:
        """Hand over what comes."""
        batch = Batch(self._subscription)
        most = BATCH_SMALL_ROWS if self._sink.divisible else BATCH_ROWS
        first = self._subscription.receive(IDLE_MS)
        if first is None:
            return
        size = self._add(batch, [first])
        while batch.rows < most and size < BATCH_BYTES and not self._stop_event.is_set():
            more = self._subscription.receive_more()
            size += self._add(batch, more)
            # Not only when nothing came: an unbroken stream of single messages would be held until the batch is full.
            if len(more) < self._subscription.chunk and self._idle.is_set():
                break
        ready = self._prepared(batch)
        self._idle.clear()
        while not self._stop_event.is_set():
            with suppress(queue.Full):
                self._handover.put(ready, timeout=0.2)
                return

    def _prepared(self, batch: Batch) -> Ready:
        try:
            return Ready(batch, self._sink.prepare(batch.parts))
        except Exception as error:  # a value that no check knew: who stores the batch finds the message
            return Ready(batch, None, error)

    def _add(self, batch: Batch, messages: list[Message]) -> int:
        """Decode; returns how many bytes they are."""
        size = 0
        for message in messages:
            size += len(message.data)
            batch.last_of_topic[message.topic] = message
            try:
                if (length := len(message.data)) > self._most_bytes:
                    message.data = message.data[:MOST_PAYLOAD]  # what its letter can hold
                    raise BadData("size", f"{length:,} bytes, more than {self._most_bytes:,}")
                record, rows = self._sink.read(message)
                batch.parts.append(MessageSlice(message, record, 0, rows))
                batch.rows += rows or 1
            except BadData as error:
                batch.letters.add(message, error.reason, str(error))
                batch.rows += 1
            except Exception as error:  # a value that no check knew
                batch.letters.add(message, "writer", f"{type(error).__name__}: {error}")
                batch.rows += 1
        return size
