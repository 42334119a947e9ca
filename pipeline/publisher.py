"""Sending records of one topic: endless resending, memory bounded, sequence ids that only grow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pulsar
import structlog

from pipeline import events
from pipeline.process import now_us


class Publisher:
    """Sends records of one topic without waiting; counts what the broker confirmed.

    `send` keeps at most `max_pending` messages in memory. With `wait` it blocks at the bound until there is room,
    without (live data) it returns False and counts an overflow, which the ledger will show as a gap.
    """

    def __init__(self, producer: pulsar.Producer, topic: str, max_pending: int, stop: threading.Event) -> None:
        self.topic = topic
        self._producer = producer
        self._max_pending = max_pending
        self._stop = stop
        # Never from venue data, which goes back in time; never below what the broker has seen, or it would drop us.
        self._sequence_id = max(producer.last_sequence_id() + 1, now_us())
        self._room = threading.Condition()
        self.pending = 0
        self.confirmed = 0
        self.failed = 0
        self.overflowed = 0

    def send(
        self, record: Mapping[str, Any] | bytes, *, key: str | None = None, wait: bool = False,
        on_confirmed: Callable[[], None] | None = None,
    ) -> bool:  # fmt: skip
        """Hand one record to the client. Returns False where it was not taken. Thread-safe."""
        with self._room:
            while self.pending >= self._max_pending:
                if not wait or self._stop.is_set():
                    self.overflowed += 1
                    return False
                self._room.wait(0.2)
            self.pending += 1
            self._sequence_id += 1

            def done(result: Any, _message_id: Any) -> None:  # on the client's thread: quick, and never raises
                ok = result == pulsar.Result.Ok
                if ok and on_confirmed is not None:
                    try:
                        on_confirmed()
                    except Exception as error:
                        structlog.get_logger().error(events.FAILED, error=repr(error))
                with self._room:
                    self.pending -= 1
                    self.confirmed += ok
                    self.failed += not ok
                    self._room.notify_all()

            # Inside the lock: ids must reach the broker in rising order, or deduplication drops the late one.
            self._producer_of(record).send_async(record, done, partition_key=key, sequence_id=self._sequence_id)
        return True

    def _producer_of(self, _record: Mapping[str, Any] | bytes) -> pulsar.Producer:
        return self._producer

    def flush(self, timeout_s: float) -> bool:
        """Wait until the broker confirmed everything; False when it did not in time."""
        with self._room:
            self._room.wait_for(lambda: self.pending == 0, timeout_s)
            return self.pending == 0 and self.failed == 0

    def connected(self) -> bool:
        return bool(self._producer.is_connected())

    def close(self) -> None:
        with suppress(pulsar.PulsarException):  # already closed, or no broker
            self._producer.close()
