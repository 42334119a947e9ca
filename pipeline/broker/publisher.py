"""Sending records of one topic: resent until confirmed, bounded in memory, opened again after a failure.

A publisher never gives up its topic. When the broker refuses it (topic terminated, deleted, rights taken), it says so
in `trouble`, and is closed and opened again in the background with a growing delay until it works.
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
from pipeline.broker.link import Link
from pipeline.broker.opener import Opener
from pipeline.core import events, metrics
from pipeline.core.errors import PipelineError, Unavailable
from pipeline.core.runtime import now_us

REOPEN_FIRST_S, REOPEN_CAP_S, SAY_EVERY_S = 0.2, 10.0, 30.0
# Another process publishes the topic. It may end at any moment, so it is not asked less and less often.
ELSEWHERE_S = 5.0
# So long a sender that waits for room waits for a publisher that is being opened again.
PATIENCE_S = 30.0
# What the broker says of one message, not of the producer.
_OF_THE_MESSAGE = (pulsar.Result.MessageTooBig, pulsar.Result.InvalidMessage, pulsar.Result.ProducerQueueIsFull)

Record = Mapping[str, Any] | Struct | bytes


class Publisher:
    """Sends records of one topic without waiting; counts what the broker confirmed. Thread-safe.

    `send` keeps at most `max_pending` messages and what the process's budget allows in memory. `trouble` is the
    sentence that says why it cannot publish now; `elsewhere`: because another process publishes the topic.
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
        """`connect` makes one attempt; it raises what the client or the admin interface says."""
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
        self._broken: Link | None = None  # to be closed by the opener
        self._closed = False
        self._delay_s = REOPEN_FIRST_S
        self._said_at = -SAY_EVERY_S
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
        """One attempt, here. Raises what the client or the admin interface says."""
        self._adopt(self._connect())

    def open_later(self) -> None:
        """In the background, until it works."""
        self._opener.later(self, 0.0)

    def failing(self, error: Exception) -> None:
        """An attempt did not work: say why, and try again in the background."""
        self._opener.later(self, self._failed_to_open(error))

    def _adopt(self, producer: pulsar.Producer) -> None:
        with self._room:
            if self._closed:
                Link(producer).close()
                return
            # Never from venue data, which goes back in time; never below what the broker has seen, or it would drop us.
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
            self.trouble = "another process publishes it already; this one takes over when that is gone"
        else:
            self.trouble = _sentence(error)
        self.attempts += 1
        self._say()
        delay, self._delay_s = self._delay_s, min(REOPEN_CAP_S, self._delay_s * 2)
        return ELSEWHERE_S if self.elsewhere and delay > ELSEWHERE_S else delay

    def _say(self) -> None:
        now = time.monotonic()
        if now - self._said_at >= SAY_EVERY_S and not (self._closed or self._stop.is_set()):
            self._said_at = now
            event = events.PUBLISHED_ELSEWHERE if self.elsewhere else events.PUBLISH_FAILED
            structlog.get_logger().error(event, topic=self.topic, reason=self.trouble, failed=self.failed)

    def _break(self, link: Link, reason: str) -> None:
        """Under the lock, also on the client's threads: the link is of no use any more."""
        if self._link is not link:
            return
        self._link, self._broken, self.trouble = None, link, reason
        if not self._closed:
            self._opener.later(self, self._delay_s)
            self._delay_s = min(REOPEN_CAP_S, self._delay_s * 2)

    def _account_for(self, link: Link) -> None:
        """Nothing is confirmed any more over a closed link: what was on its way has failed."""
        with self._room:
            if link.over:
                return
            link.over = True
            self._lost(link.pending)
            self.pending -= link.pending
            self._budget.give(link.bytes)
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
        """Hand one record to the client; True where it was taken. Raises `BadData` for one that the schema cannot hold.

        Without `wait` (live data) it returns False at once where there is no room or the publisher is not open; the
        ledger will show the gap. With `wait` it blocks until there is room; False only when stopped meanwhile,
        `Unavailable` when the publisher could not be opened within `PATIENCE_S`. Taken is not yet confirmed: see
        `flush` and `failed`.
        """
        data = self._encode(record)
        return self._hand_over(data, key, wait, on_confirmed)

    def _hand_over(self, data: bytes, key: str | None, wait: bool, on_confirmed: Callable[[], None] | None) -> bool:
        size = len(data) + OVERHEAD_BYTES
        give_up = time.monotonic() + PATIENCE_S if wait else 0.0
        with self._room:
            while (link := self._link) is None or self.pending >= self._max_pending or not self._budget.take(size):
                if not wait or self._stop.is_set() or self._closed:
                    self.overflowed += 1
                    return False
                if link is not None:
                    give_up = time.monotonic() + PATIENCE_S
                elif time.monotonic() > give_up:
                    raise Unavailable(f"nothing can be published onto {self.topic}: {self.trouble}")
                self._room.wait(0.2)
            if not self.pending:
                self._moved_at = time.monotonic()
            self.pending += 1
            link.pending += 1
            link.bytes += size
            self._sequence_id += 1

            def done(result: Any, _message_id: Any) -> None:  # on the client's thread: quick, and never raises
                if result == pulsar.Result.Ok and on_confirmed is not None:
                    try:
                        on_confirmed()
                    except Exception as error:
                        structlog.get_logger().error(events.FAILED, error=repr(error))
                self._done(link, size, result)

            # Inside the lock: ids must reach the broker in rising order, or deduplication drops the late one.
            try:
                self._producer_of(link, data).send_async(data, done, partition_key=key, sequence_id=self._sequence_id)
            except Exception as error:  # closed under our hands, or nothing that the client takes
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
            self._budget.give(size)
            self._moved_at = time.monotonic()
            if result == pulsar.Result.Ok:
                self.confirmed += 1
                self._delay_s = REOPEN_FIRST_S
            else:
                self._lost(1)
                if result not in _OF_THE_MESSAGE:
                    self._break(link, _sentence(result))
            self._room.notify_all()

    def _producer_of(self, link: Link, _data: bytes) -> pulsar.Producer:
        return link.producer

    # -- what became of it -------------------------------------------------------------------------------------------

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is on its way; False when something is after that time, or when any message ever failed
        (`failed` counts them: whoever must know what became of his messages compares it before and after)."""
        with self._room:
            self._room.wait_for(lambda: self.pending == 0, timeout_s)
            return self.pending == 0 and self.failed == 0

    def stalled_s(self) -> float:
        """How long messages have been on their way of which the broker confirmed none."""
        return time.monotonic() - self._moved_at if self.pending else 0.0

    def close(self) -> None:
        with self._room:
            self._closed = True
            links = [link for link in (self._link, self._broken) if link is not None]
            self._link = self._broken = None
            self._room.notify_all()
        for link in links:
            link.close()
            self._account_for(link)


def _sentence(error: Any) -> str:
    """Why it does not work, for people: `TopicTerminated`, or what our own errors say."""
    if isinstance(error, PipelineError):
        return str(error)
    if isinstance(error, pulsar.PulsarException):
        return str(error).removeprefix("Pulsar error: ") or type(error).__name__
    if isinstance(error, Exception):
        return f"{type(error).__name__}: {error}"
    return str(error).removeprefix("Result.")
