"""Backpressure: loads of history pause while a writer is behind or the disk is nearly full."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from pipeline.broker.admin import Admin
from pipeline.core import events
from pipeline.core.errors import PipelineError
from pipeline.core.log import get_logger
from pipeline.core.settings import (
    DatabaseSettings,
    LimitSettings,
    PulsarSettings,
    ServicesSettings,
    load,
)

WRITER = "writer"  # the subscription of `consumers.subscription`
CHECK_EVERY_S = 1.0
LOG_EVERY_S = 10.0


class Backpressure:
    """Call `wait` before each piece of history; live data never waits. Thread-safe.

    `folders`: further folders whose disk must not fill up, besides that of the private services.
    """

    def __init__(self, stop: threading.Event, folders: Iterable[Path] = ()) -> None:
        self._stop = stop
        pulsar, self._limits = load(PulsarSettings), load(LimitSettings)
        private = pulsar.private or load(DatabaseSettings).private
        self._folders = [*folders, *([load(ServicesSettings).data] if private else [])]
        self._backlog_mb = pulsar.history_backlog_mb
        self._admin = Admin(pulsar)
        self._lock = threading.Lock()
        self._checked: dict[str, tuple[float, str | None]] = {}  # by topic: when (monotonic), and the reason found
        self._logged_at = 0.0
        self.why: str | None = None
        """Why history is paused, by the last check; None: it is not."""

    def wait(self, topic: str, until: float = float("inf")) -> bool:
        """Block until history may be published to `topic`. Returns False if stopped, or not allowed by `until`
        (monotonic)."""
        while not self._stop.is_set():
            with self._lock:
                checked_at, reason = self._checked.get(topic, (0.0, None))
                if time.monotonic() - checked_at >= CHECK_EVERY_S:
                    reason = self._check(topic)
            if reason is None:
                return True
            if time.monotonic() >= until:
                return False
            self._stop.wait(0.2)
        return False

    def messages_behind(self, topic: str) -> int:
        """Return the number of messages the writer has not stored. Raises `PipelineError`."""
        return self._admin.backlog(topic, WRITER).messages

    def behind(self, topic: str) -> bool:
        """Return whether there are messages the writer has not stored; False if the broker does not answer."""
        try:
            return self.messages_behind(topic) > 0
        except PipelineError:
            return False

    def _check(self, topic: str) -> str | None:
        self.why = reason = self._full_disk() or self._backlog(topic)
        now = time.monotonic()
        self._checked[topic] = now, reason
        if reason and now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            get_logger().warning(events.WAITING, on="room for history", topic=topic, text=reason)
        return reason

    def _full_disk(self) -> str | None:
        for folder in self._folders:
            there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
            free_gb = shutil.disk_usage(there).free / 1e9
            if free_gb < self._limits.min_free_disk_gb:
                least = self._limits.min_free_disk_gb
                return f"only {free_gb:.1f} GB are free at {there}; LIMITS_MIN_FREE_DISK_GB is {least}"
        return None

    def _backlog(self, topic: str) -> str | None:
        try:
            size = self._admin.backlog(topic, WRITER).bytes
        except (PipelineError, ValueError, KeyError):
            return None  # no answer from the broker: the publisher's own limit applies
        if size <= self._backlog_mb * 1_000_000:
            return None
        return f"the writer is {size / 1e6:.0f} MB behind; PULSAR_HISTORY_BACKLOG_MB is {self._backlog_mb}"
