"""Health of a writer, and the metrics of its backlog."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import Gauge

from consumers.subscription import SUBSCRIPTION
from pipeline.broker.admin import Admin
from pipeline.core.errors import Refused
from pipeline.core.settings import PulsarSettings

BACKLOG = Gauge("writer_backlog_messages", "Messages not yet acknowledged", ["namespace"])
LOOK_EVERY_S = 10.0  # each topic costs the broker 2 ms
STUCK_AFTER_S = 60.0
# Shorter delays of dead letters are not worth an alarm.
LETTERS_AFTER_S = 5.0


class LaneState:
    """The state of one lane. Set by its threads, read by any thread."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._database: str | None = None
        self._letters_since: float | None = None
        self._busy_since: float | None = None
        self.last_commit: float | None = None
        self.subscription: Callable[[], str | None] = lambda: None
        self.failure: BaseException | None = None

    def database(self, error: str | None) -> None:
        """Set the error of the last attempt to store; None: it succeeded."""
        self._database = error

    def letters_since(self, moment: float | None) -> None:
        """Set since when dead letters wait to be sent; None: none do."""
        self._letters_since = moment

    def begin(self) -> None:
        self._busy_since = time.monotonic()

    def committed(self) -> None:
        self._busy_since = None
        self.last_commit = time.monotonic()

    @property
    def database_ok(self) -> bool:
        return self._database is None

    def why(self) -> list[str]:
        """Return the problems."""
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
    """Polls the backlog every few seconds. Healthy while the database is reachable and the backlog falls or is zero."""

    def __init__(self, settings: PulsarSettings, lanes: Sequence[LaneState], stop: threading.Event) -> None:
        super().__init__(name="state", daemon=True)
        self._admin = Admin(settings)
        self._tenant = settings.tenant
        self._lanes = lanes
        self._stop_event = stop
        self._seen: deque[tuple[float, int]] = deque(maxlen=int(STUCK_AFTER_S / LOOK_EVERY_S) + 1)
        self._broker_error: str | None = None
        self.further: list[Callable[[], str | None]] = []
        """Further checks of this program: each returns its problem, or None."""

    def run(self) -> None:
        while not self._stop_event.wait(LOOK_EVERY_S):
            try:
                self._seen.append((time.monotonic(), sum(self._backlog(lane.namespace) for lane in self._lanes)))
                self._broker_error = None
            except Exception as error:  # shown in /health; this thread continues
                self._broker_error = f"{type(error).__name__}: {error}"

    def _backlog(self, namespace: str) -> int:
        try:
            topics = self._admin.topics(f"{self._tenant}/{namespace}")
        except Refused:  # no such namespace: no backlog
            topics = []
        total = 0
        for topic in topics:
            try:
                total += self._admin.backlog(topic, SUBSCRIPTION)[0]
            except Refused:  # deleted meanwhile
                continue
        BACKLOG.labels(namespace).set(total)
        return total

    def report(self) -> tuple[bool, dict[str, Any]]:
        backlog = self._seen[-1][1] if self._seen else None
        stuck = (
            len(self._seen) == self._seen.maxlen
            and all(count > 0 for _, count in self._seen)
            and min(count for _, count in list(self._seen)[1:]) >= self._seen[0][1]
            and self._commit_age_s() > STUCK_AFTER_S
        )
        why = [] if self.is_alive() else ["waiting for the broker and the database"]
        why += [text for lane in self._lanes for text in lane.why()]
        if stuck:
            why.append(f"the backlog of {backlog} messages is not falling")
        if self._broker_error is not None:
            why.append(f"the broker does not answer: {self._broker_error}")
        why += [text for ask in self.further if (text := ask()) is not None]
        age = self._commit_age_s()
        body = {
            "why": why or ["all well"],
            "database": "ok" if self.is_alive() and all(lane.database_ok for lane in self._lanes) else "unreachable",
            "backlog_messages": backlog,
            "last_commit_age_s": None if age == float("inf") else round(age, 1),
        }
        return not why, body

    def _commit_age_s(self) -> float:
        commits = [lane.last_commit for lane in self._lanes if lane.last_commit is not None]
        return time.monotonic() - max(commits) if commits else float("inf")
