"""Health of a writer, and the metrics of its backlog."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import Gauge

from consumers.topic_watch import STUCK_AFTER_S, TopicWatch
from pipeline.broker.admin import Admin
from pipeline.core.settings import PulsarSettings

BACKLOG = Gauge("writer_backlog_messages", "Messages not yet acknowledged", ["namespace"])
POLL_EVERY_S = 10.0  # each topic costs the broker 2 ms
# Shorter delays of dead letters do not make a writer unhealthy.
LETTERS_AFTER_S = 5.0


class LaneState:
    """The state of one lane. Set by its threads, read by any thread. Times are monotonic seconds."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._database: str | None = None
        self._letters_since: float | None = None
        self._busy_since: float | None = None
        self.last_commit: float | None = None
        self.subscription: Callable[[], str | None] = lambda: None
        """Returns the subscription's problem, or None."""
        self.recover: Callable[[Sequence[str]], None] = lambda _: None
        """Subscribes again to topics that nobody reads."""
        self.failure: BaseException | None = None
        """What ended the lane."""

    def database(self, error: str | None) -> None:
        """Record the error of the last attempt to store; None if it succeeded."""
        self._database = error

    def letters_since(self, moment: float | None) -> None:
        """Record since when dead letters have been waiting to be sent; None if none are."""
        self._letters_since = moment

    def begin(self) -> None:
        """Record that a batch is being stored."""
        self._busy_since = time.monotonic()

    def committed(self) -> None:
        """Record that it is stored and acknowledged."""
        self._busy_since = None
        self.last_commit = time.monotonic()

    @property
    def database_ok(self) -> bool:
        return self._database is None

    def why(self) -> list[str]:
        """Return the lane's problems as sentences for `/health`."""
        now = time.monotonic()
        found = []
        if self.failure is not None:
            found.append(f"{self.namespace}: ended by {type(self.failure).__name__}: {self.failure}")
        if self._database is not None:
            found.append(f"{self.namespace}: the database does not accept the rows: {self._database}")
        if (since := self._letters_since) is not None and now - since > LETTERS_AFTER_S:
            found.append(f"{self.namespace}: dead letters could not be sent for {now - since:.0f} s")
        if (since := self._busy_since) is not None and now - since > STUCK_AFTER_S:
            found.append(f"{self.namespace}: a batch has been retried for {now - since:.0f} s")
        if (trouble := self.subscription()) is not None:
            found.append(trouble)
        return found


class WriterState(threading.Thread):
    """Polls the broker about the topics, in a thread of its own.

    Healthy while the database is reachable and every topic with messages is read and stored.
    """

    def __init__(self, settings: PulsarSettings, lanes: Sequence[LaneState], stop: threading.Event) -> None:
        super().__init__(name="state", daemon=True)
        admin = Admin(settings)
        self._lanes = lanes
        self._watched = [(lane, TopicWatch(admin, settings.tenant, lane.namespace)) for lane in lanes]
        self._stop_event = stop
        self._backlog: int | None = None
        self._broker_error: str | None = None
        self.checks: list[Callable[[], str | None]] = []
        """Additional checks of this program: each returns a problem, or None."""

    def run(self) -> None:
        while not self._stop_event.wait(POLL_EVERY_S):
            try:
                self._backlog = sum(self._poll(lane, watch) for lane, watch in self._watched)
                self._broker_error = None
            except Exception as error:  # shown in /health; this thread continues
                self._broker_error = f"{type(error).__name__}: {error}"

    def _poll(self, lane: LaneState, watch: TopicWatch) -> int:
        backlog = watch.poll()
        BACKLOG.labels(lane.namespace).set(backlog)
        if lost := watch.lost():
            lane.recover(lost)
        return backlog

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Return (healthy, body) for `/health`."""
        why = [] if self.is_alive() else ["waiting for the broker and the database"]
        why += [text for lane in self._lanes for text in lane.why()]
        why += [text for _, watch in self._watched for text in watch.why()]
        if self._broker_error is not None:
            why.append(f"the broker does not answer: {self._broker_error}")
        why += [text for check in self.checks if (text := check()) is not None]
        age = self._commit_age_s()
        body = {
            "why": why or ["all well"],
            "database": "ok" if self.is_alive() and all(lane.database_ok for lane in self._lanes) else "unreachable",
            "backlog_messages": self._backlog,
            "last_commit_age_s": None if age == float("inf") else round(age, 1),
        }
        return not why, body

    def _commit_age_s(self) -> float:
        commits = [lane.last_commit for lane in self._lanes if lane.last_commit is not None]
        return time.monotonic() - max(commits) if commits else float("inf")
