"""Publish records to one topic: resent until confirmed, with bounded memory, reopened after failures.

A publisher never gives up its topic. If the broker refuses it (topic terminated or deleted, permission revoked), the
reason is in `trouble`, and the producer is closed and reopened in the background with a growing delay until it works.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pulsar
import structlog
from msgspec import Struct

from pipeline.broker.budget import OVERHEAD_BYTES, Budget
from pipeline.broker.client_thread import keep_state
from pipeline.broker.link import Link
from pipeline.broker.opener import Opener
from pipeline.broker.refusal import sentence
from pipeline.core import events, metrics
from pipeline.core.errors import Unavailable
from pipeline.core.runtime import now_us

REOPEN_FIRST_S, REOPEN_CAP_S, LOG_EVERY_S = 0.2, 10.0, 30.0
# Retry interval while another process publishes the topic. It may end at any time, so the interval does not grow.
ELSEWHERE_S = 5.0
# How long a blocking `send` waits for a publisher that is being reopened.
PATIENCE_S = 30.0
# Results that concern a single message, not the producer.
_OF_THE_MESSAGE = (pulsar.Result.MessageTooBig, pulsar.Result.InvalidMessage, pulsar.Result.ProducerQueueIsFull)

Record = Mapping[str, Any] | Struct | bytes


class Publisher:
    """Publishes records to one topic asynchronously and counts confirmations. Thread-safe.

    At most `max_pending` messages, within the process's budget, are pending. `trouble`: a sentence why it cannot
    publish now, or None; `elsewhere`: another process publishes the topic.
    """

    def __init__(
        self,
        connect: Callable[[], pulsar.Producer],
        topic: str,
        encode: Callable[[Record], bytes],
        max_pending: int,
        stop: threading.Event,
        budget: Budget,
        opener: Opener,
        labels: tuple[str, str],
    ) -> None:
        """`connect` makes one attempt to create a producer; it raises errors of the client or the admin interface."""
        self.topic = topic
        self.labels = labels
        self._connect = connect
        self._encode = encode
        self._max_pending = max_pending
        self._stop = stop
        self._budget = budget
        self._opener = opener
        self._sequence_id = 0
        self._room = threading.Condition()
        self._link: Link | None = None
        self._broken: Link | None = None  # the opener will close it
        self._closed = False
        self._delay_s = REOPEN_FIRST_S
        self._logged_at = -LOG_EVERY_S
        self._moved_at = time.monotonic()
        self._metric = metrics.PUBLISH_FAILED.labels(*labels)
        self.attempts = 0
        self.trouble: str | None = "not yet open"
        self.elsewhere = False
        self.pending = 0
        self.confirmed = 0
        self.failed = 0
        self.overflowed = 0

    # -- opening -----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Make one attempt in this thread. Raises errors of the client or the admin interface."""
        self._adopt(self._connect())

    def open_later(self) -> None:
        """Open in the background, retrying until it works."""
        self._opener.later(self, 0.0)

    def failing(self, error: Exception) -> None:
        """Record a failed attempt and retry in the background."""
        self._opener.later(self, self._failed_to_open(error))

    def _adopt(self, producer: pulsar.Producer) -> None:
        with self._room:
            if self._closed:
                Link(producer).close()
                return
            # Never from venue data, which may go back in time; never below what the broker has seen, or deduplication
            # would drop our messages.
            self._sequence_id = max(producer.last_sequence_id() + 1, now_us(), self._sequence_id)
            self._link = Link(producer)
            self._moved_at = time.monotonic()
            again, self.trouble, self.elsewhere = self.attempts > 0, None, False
            self.attempts += 1
            self._room.notify_all()
        if again:
            structlog.get_logger().info(events.PUBLISHER_OPENED, topic=self.topic, failed=self.failed)

    def open_once(self) -> float | None:
        """See `Opened`. Never raises."""
        try:
            with self._room:
                broken, self._broken = self._broken, None
            if broken is not None:
                broken.close()
                self._account_for(broken)
            if self._closed or self._link is not None:
                return None
            self.open()
            return None
        except Exception as error:
            return self._failed_to_open(error)

    def _failed_to_open(self, error: Exception) -> float:
        self.elsewhere = isinstance(error, pulsar.ProducerBusy)
        if self.elsewhere:
            self.trouble = "another process is publishing it; this one takes over when that ends"
        else:
            self.trouble = sentence(error)
        self.attempts += 1
        self._log_trouble()
        delay, self._delay_s = self._delay_s, min(REOPEN_CAP_S, self._delay_s * 2)
        return ELSEWHERE_S if self.elsewhere and delay > ELSEWHERE_S else delay

    def _log_trouble(self) -> None:
        now = time.monotonic()
        if now - self._logged_at >= LOG_EVERY_S and not (self._closed or self._stop.is_set()):
            self._logged_at = now
            event = events.PUBLISHED_ELSEWHERE if self.elsewhere else events.PUBLISH_FAILED
            structlog.get_logger().error(event, topic=self.topic, reason=self.trouble, failed=self.failed)

    def _break(self, link: Link, reason: str) -> None:
        """Abandon a broken link. Called with the lock held, also from the client's threads."""
        if self._link is not link:
            return
        self._link, self._broken, self.trouble = None, link, reason
        if not self._closed:
            self._opener.later(self, self._delay_s)
            self._delay_s = min(REOPEN_CAP_S, self._delay_s * 2)

    def _account_for(self, link: Link) -> None:
        """Count the pending messages of a closed link as failed, because they will not be confirmed."""
        with self._room:
            if link.over:
                return
            link.over = True
            self._lost(link.pending)
            self.pending -= link.pending
            self._budget.release(link.bytes)
            self._room.notify_all()

    def _lost(self, count: int) -> None:
        self.failed += count
        self._metric.inc(count)

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(
        self,
        record: Record,
        *,
        key: str | None = None,
        wait: bool = False,
        on_confirmed: Callable[[], None] | None = None,
    ) -> bool:
        """Pass one record to the client; returns whether it was accepted. Raises `BadData` if it does not fit the
        schema.

        Without `wait` (live data), returns False at once if there is no room or the publisher is not open; the ledger
        will show the gap. With `wait`, blocks until there is room; returns False only if stopped meanwhile and raises
        `Unavailable` if the publisher cannot be opened within `PATIENCE_S`. Accepted is not yet confirmed: see `flush`
        and `failed`. `on_confirmed` is called from the client's thread and must be quick.
        """
        data = self._encode(record)
        return self._hand_over(data, key, wait, on_confirmed)

    def _hand_over(self, data: bytes, key: str | None, wait: bool, on_confirmed: Callable[[], None] | None) -> bool:
        size = len(data) + OVERHEAD_BYTES
        give_up = time.monotonic() + PATIENCE_S if wait else 0.0
        with self._room:
            while (link := self._link) is None or self.pending >= self._max_pending or not self._budget.reserve(size):
                if not wait or self._stop.is_set() or self._closed:
                    self.overflowed += 1
                    return False
                if link is not None:
                    give_up = time.monotonic() + PATIENCE_S
                elif time.monotonic() > give_up:
                    raise Unavailable(f"cannot publish to {self.topic}: {self.trouble}")
                self._room.wait(0.2)
            if not self.pending:
                self._moved_at = time.monotonic()
            self.pending += 1
            link.pending += 1
            link.bytes += size
            self._sequence_id += 1

            def done(result: Any, _message_id: Any) -> None:  # on the client's thread: quick, and never raises
                keep_state()
                if result == pulsar.Result.Ok and on_confirmed is not None:
                    try:
                        on_confirmed()
                    except Exception as error:
                        structlog.get_logger().error(events.FAILED, error=repr(error))
                self._done(link, size, result)

            # With the lock held: sequence ids must reach the broker in ascending order, or deduplication drops the late
            # one.
            try:
                self._producer_of(link, data).send_async(data, done, partition_key=key, sequence_id=self._sequence_id)
            except Exception as error:  # just closed, or not accepted by the client
                self._done(link, size, error)
                return False
        return True

    def _done(self, link: Link, size: int, result: Any) -> None:
        with self._room:
            if link.over:
                return
            link.pending -= 1
            link.bytes -= size
            self.pending -= 1
            self._budget.release(size)
            self._moved_at = time.monotonic()
            if result == pulsar.Result.Ok:
                self.confirmed += 1
                self._delay_s = REOPEN_FIRST_S
            else:
                self._lost(1)
                if result not in _OF_THE_MESSAGE:
                    self._break(link, sentence(result))
            self._room.notify_all()

    def _producer_of(self, link: Link, _data: bytes) -> pulsar.Producer:
        return link.producer

    # -- confirmations -----------------------------------------------------------------------------------------------

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is pending, for at most `timeout_s`. Returns False on timeout, or if any message ever
        failed (to learn the fate of certain messages, compare `failed` before and after)."""
        with self._room:
            self._room.wait_for(lambda: self.pending == 0, timeout_s)
            return self.pending == 0 and self.failed == 0

    def stalled_s(self) -> float:
        """Return the seconds for which messages have been pending without any confirmation."""
        return time.monotonic() - self._moved_at if self.pending else 0.0

    def close(self) -> None:
        """Close the producer; pending messages count as failed."""
        with self._room:
            self._closed = True
            links = [link for link in (self._link, self._broken) if link is not None]
            self._link = self._broken = None
            self._room.notify_all()
        for link in links:
            link.close()
            self._account_for(link)
