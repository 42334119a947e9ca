"""Publish dead letters. A refused message is acknowledged only after the broker has confirmed its letter."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from functools import partial

import pulsar
from prometheus_client import Counter
from tenacity import wait_fixed

from consumers.health import LaneState
from consumers.sink import DeadLetter
from consumers.store import Stopping
from pipeline.broker.client import Bus
from pipeline.broker.publisher import Publisher
from pipeline.broker.topics import full_name
from pipeline.core import events
from pipeline.core.errors import PipelineError, Unavailable
from pipeline.core.log import get_logger
from pipeline.core.retry import retry
from pipeline.core.stopping import Stopped
from pipeline.core.text import printable

LETTERS = Counter("writer_dead_letters", "Rows and messages refused", ["namespace", "reason"])
# Log lines per batch of letters; the letters themselves have all details.
MOST_LINES = 20
# A letter that is not confirmed after this counts as stuck and is sent again through a new producer.
PATIENCE_S = 10.0
RETRY_S = 2.0


class LetterPublisher:
    """Publishes the dead letters of one program to `dead-letters/<program>`. Used by one thread."""

    def __init__(self, name: str, bus: Bus, state: LaneState, stop: threading.Event) -> None:
        self._source = name
        # A unique name: several writers, and several lanes of one writer, publish to this topic.
        self._name = bus.own_name(f"{name}-{state.namespace}")
        self._topic = full_name(bus.settings.tenant, "dead-letters", name)
        self._bus = bus
        self._state = state
        self._stop = stop
        self._publisher: Publisher | None = None

    def send(self, namespace: str, letters: Iterable[DeadLetter]) -> None:
        """Publish letters, retrying until all are confirmed. Raises `Stopping` if the program is stopped before."""
        waiting = dict(enumerate(letters))
        self._log_letters(namespace, list(waiting.values()))
        self._state.letters_since(time.monotonic() if waiting else None)
        if waiting:
            try:
                retry(
                    partial(self._attempt, waiting),
                    self._stop,
                    retry_on=(PipelineError, pulsar.PulsarException),
                    wait=wait_fixed(RETRY_S),
                    before_wait=lambda error, _seconds: self._on_failure(len(waiting), str(error)),
                )
            except Stopped:
                raise Stopping from None
        self._state.letters_since(None)

    def _attempt(self, waiting: dict[int, DeadLetter]) -> None:
        """Make one attempt; confirmed letters are removed from `waiting`. Raises `Unavailable` or `Stopping`."""
        if self._publisher is None:
            self._publisher = self._bus.publisher_to(self._topic, "dead_letter", self._name)
        taken: list[int] = []
        try:
            for number, letter in waiting.items():
                record = letter.record(self._source)
                if not self._publisher.send(record, wait=True, on_confirmed=partial(taken.append, number)):
                    raise Unavailable("the broker does not accept them")
            end = time.monotonic() + PATIENCE_S
            while len(taken) < len(waiting):
                before = len(taken)
                if self._stop.is_set():
                    raise Stopping
                done = self._publisher.flush(0.2)
                if len(taken) > before:
                    end = time.monotonic() + PATIENCE_S
                elif len(taken) < len(waiting) and (done or not self._publisher.pending or time.monotonic() > end):
                    raise Unavailable("the broker does not confirm them")
        finally:
            for number in taken:
                waiting.pop(number, None)

    def _on_failure(self, count: int, error: str) -> None:
        if self._stop.is_set():
            raise Stopping
        get_logger().error(events.LETTERS_STUCK, topic=self._topic, letters=count, error=error, retry_in_s=RETRY_S)
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None

    def _log_letters(self, namespace: str, letters: list[DeadLetter]) -> None:
        for letter in letters:
            LETTERS.labels(namespace, letter.reason).inc()
        for letter in letters[:MOST_LINES]:
            get_logger().warning(
                events.DEAD_LETTER,
                topic=letter.message.topic,
                message_id=letter.message.id_text,
                row=letter.row,
                reason=letter.reason,
                detail=printable(letter.detail[:200]),
            )
        if len(letters) > MOST_LINES:
            get_logger().warning(events.DEAD_LETTER, namespace=namespace, more=len(letters) - MOST_LINES)
