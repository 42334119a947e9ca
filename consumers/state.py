"""How a writer is doing: for `/health` and for the metrics of its backlog."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from prometheus_client import Gauge

from consumers.inbox import SUBSCRIPTION
from pipeline.admin import Admin
from pipeline.errors import PipelineError
from pipeline.settings import PulsarSettings

BACKLOG = Gauge("writer_backlog_messages", "Messages not yet acknowledged", ["namespace"])
LOOK_EVERY_S = 5.0
STUCK_AFTER_S = 60.0


class WriterState(threading.Thread):
    """Asks the broker for the backlog every few seconds; well means: database reachable, backlog falling or zero."""

    def __init__(self, settings: PulsarSettings, namespaces: list[str], stop: threading.Event) -> None:
        super().__init__(name="state", daemon=True)
        self._admin = Admin(settings)
        self._tenant = settings.tenant
        self._namespaces = namespaces
        self._stop_event = stop
        self._seen: deque[tuple[float, int]] = deque(maxlen=int(STUCK_AFTER_S / LOOK_EVERY_S) + 1)
        self._broker_error: str | None = None
        self._last_commit: float | None = None
        self.database_ok = True

    def committed(self) -> None:
        self._last_commit = time.monotonic()

    def run(self) -> None:
        while not self._stop_event.wait(LOOK_EVERY_S):
            try:
                total = 0
                for namespace in self._namespaces:
                    topics = self._admin.topics(f"{self._tenant}/{namespace}")
                    backlog = sum(self._admin.backlog(topic, SUBSCRIPTION)[0] for topic in topics)
                    BACKLOG.labels(namespace).set(backlog)
                    total += backlog
                self._seen.append((time.monotonic(), total))
                self._broker_error = None
            except (PipelineError, ValueError, KeyError) as error:
                self._broker_error = str(error)

    def report(self) -> tuple[bool, dict[str, Any]]:
        backlog = self._seen[-1][1] if self._seen else None
        stuck = (
            len(self._seen) == self._seen.maxlen
            and all(count > 0 for _, count in self._seen)
            and min(count for _, count in list(self._seen)[1:]) >= self._seen[0][1]
            and self._commit_age_s() > STUCK_AFTER_S
        )
        why = [
            text
            for bad, text in (
                (not self.database_ok, "the database does not answer"),
                (stuck, f"the backlog of {backlog} messages is not falling"),
                (self._broker_error is not None, f"the broker does not answer: {self._broker_error}"),
            )
            if bad
        ]
        age = self._commit_age_s()
        body = {
            "why": why or ["all well"],
            "database": "ok" if self.database_ok else "unreachable",
            "backlog_messages": backlog,
            "last_commit_age_s": None if age == float("inf") else round(age, 1),
        }
        return not why, body

    def _commit_age_s(self) -> float:
        return float("inf") if self._last_commit is None else time.monotonic() - self._last_commit
