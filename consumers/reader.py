"""The reading thread of a namespace: receives, decodes and checks the next batch while the current one is stored."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from consumers.sink import MOST_PAYLOAD, Batch, MessageSlice, PreparedBatch, Sink
from consumers.subscription import Message, Subscription

# A batch is handed over when the database is idle, at the latest with this many bytes. Measured with hours of quotes:
# batches of 5 k, 30 k (some 500 kB) and 100 k rows did not differ beyond the noise (348, 327, 406 k quotes/s on a busy
# machine); larger batches need memory, since three are in progress. So do many messages.
BATCH_BYTES = 512 << 10
# The same for small messages: some 6,000 trades. With twice as many, the trades writer needs 16 MB more, and the
# database 0.3 us less per trade.
BATCH_SMALL_BYTES = 256 << 10
BATCH_MESSAGES = 5_000
# Larger messages are refused without being decoded. An hour of 300,000 quotes has 5 MB; a frame or page of rows has
# some 100 kB, and each byte of a hostile one may become 100 bytes of Python objects.
MOST_BYTES = 32 << 20
MOST_SMALL_BYTES = 4 << 20
# How long to wait for the first message of a batch; the call returns as soon as there is one. With 20 ms an idle writer
# took 1.2 to 1.9 % of a core.
IDLE_MS = 200
# How long messages that a sink holds back wait for the next ones.
HOLD_S = 2.0


@dataclass
class Ready:
    """A batch to store. `prepared` is None if preparing it failed because of one of its messages."""

    batch: Batch
    prepared: PreparedBatch | None
    error: Exception | None = None


class Reader(threading.Thread):
    """Thread that puts checked batches of one namespace into `handover`. `idle` is set while nothing is being
    stored."""

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
        self._batch_bytes = BATCH_SMALL_BYTES if sink.divisible else BATCH_BYTES
        self._handover = handover
        self._idle = idle
        self._stop_event = stop
        self.failure: BaseException | None = None
        self._held: list[MessageSlice] = []  # held back by the sink, to be stored with the next messages
        self._waiting: list[Message] = []  # the messages of `_held`, and those behind them on their topics
        self._held_until = 0.0

    def run(self) -> None:
        try:
            if self._subscription.open():
                while not self._stop_event.is_set() and self._subscription.renew():
                    self._one_batch()
        except BaseException as error:
            self.failure = error
            raise

    def _one_batch(self) -> None:
        """Receive, prepare and hand over one batch."""
        first = self._subscription.receive(IDLE_MS)
        if first is None:
            if self._held and time.monotonic() >= self._held_until:
                self._hand_over([], last=True)
            return
        messages, size = [first], len(first.data)
        while len(messages) < BATCH_MESSAGES and size < self._batch_bytes and not self._stop_event.is_set():
            more = self._subscription.receive_more()
            messages += more
            size += sum(len(message.data) for message in more)
            # Not only if nothing arrived: a steady stream of single messages would wait until the batch is full.
            if len(more) < self._subscription.chunk and self._idle.is_set():
                break
        self._hand_over(messages, last=False)

    def _hand_over(self, messages: list[Message], *, last: bool) -> None:
        """Decode, check and hand over these messages, with what was held back. `last`: hold nothing back."""
        batch = Batch(self._subscription)
        fitting = messages
        if max((len(message.data) for message in messages), default=0) > self._most_bytes:
            fitting = [message for message in messages if not self._too_large(message, batch)]
        parts = [*self._held, *self._sink.read_all(fitting, batch.letters)]
        self._held = [] if last else self._sink.hold(parts)
        self._held_until = time.monotonic() + HOLD_S
        if self._held or self._waiting:
            parts, messages = self._split(parts, messages)
        batch.parts = parts
        batch.messages = len(messages)
        batch.last_of_topic = {message.topic: message for message in messages}
        if batch.last_of_topic or batch.letters:
            self._put(self._prepared(batch))

    def _too_large(self, message: Message, batch: Batch) -> bool:
        """Return whether a message is too large; if so, it becomes a dead letter."""
        if (length := len(message.data)) <= self._most_bytes:
            return False
        message.data = message.data[:MOST_PAYLOAD]  # as much as a dead letter holds
        batch.letters.add(message, "size", f"{length:,} bytes, more than {self._most_bytes:,}")
        return True

    def _split(self, parts: list[MessageSlice], messages: list[Message]) -> tuple[list[MessageSlice], list[Message]]:
        """Return the parts to store now, and the messages, including waiting ones, to acknowledge with them.

        Acknowledging a message includes all earlier ones of its topic, so from the first one that is held back on, they
        all have to wait.
        """
        held = {id(part.message) for part in self._held}
        waiting: dict[str, list[Message]] = {}
        free = []
        for message in [*self._waiting, *messages]:
            if id(message) in held or message.topic in waiting:
                waiting.setdefault(message.topic, []).append(message)
            else:
                free.append(message)
        self._waiting = [message for topic in waiting.values() for message in topic]
        return [part for part in parts if id(part.message) not in held], free

    def _put(self, ready: Ready) -> None:
        self._idle.clear()
        while not self._stop_event.is_set():
            with suppress(queue.Full):
                self._handover.put(ready, timeout=0.2)
                return

    def _prepared(self, batch: Batch) -> Ready:
        try:
            return Ready(batch, self._sink.prepare(batch.parts))
        except Exception as error:  # a value that no check covers: bisecting finds the message
            return Ready(batch, None, error)
