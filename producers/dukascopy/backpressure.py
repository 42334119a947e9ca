"""History gives way to live data: it pauses while the writer is behind or the disk fills up."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

from pipeline.broker.admin import Admin
from pipeline.core import events
from pipeline.core.errors import PipelineError
from pipeline.core.log import get_logger
from pipeline.core.settings import PulsarSettings

SUBSCRIPTION = "writer"
LOOK_EVERY_S = 1.0
SAY_EVERY_S = 10.0


class Gate:
    """`wait` returns when more may be published onto a topic. Thread-safe; looks at most once a second."""

    def __init__(
        self, settings: PulsarSettings, folders: list[Path], min_free_gb: float, stop: threading.Event
    ) -> None:
        self._admin = Admin(settings)
        self._limit_bytes = settings.history_backlog_mb * 1_000_000
        self._folders, self._min_free = folders, min_free_gb * 1e9
        self._stop = stop
        self._lock = threading.Lock()
        self._looked_at = 0.0
        self._said_at = 0.0
        self._why: str | None = None

    @property
    def why(self) -> str | None:
        """What holds history back."""
        return self._why

    def wait(self, topic: str, until: float) -> bool:
        """False when stopped meanwhile, or when there is no room by `until` (monotonic)."""
        while not self._stop.is_set() and (self._why is None or time.monotonic() < until):
            with self._lock:
                if time.monotonic() - self._looked_at >= LOOK_EVERY_S:
                    self._look(topic)
                if self._why is None:
                    return True
            self._stop.wait(0.2)
        return False

    def _look(self, topic: str) -> None:
        self._why = self._full_disk() or self._backlog(topic)
        self._looked_at = time.monotonic()
        if self._why and self._looked_at - self._said_at >= SAY_EVERY_S:
            self._said_at = self._looked_at
            get_logger().info(events.WAITING, on="room for history", text=self._why)

    def _backlog(self, topic: str) -> str | None:
        try:
            _, waiting = self._admin.backlog(topic, SUBSCRIPTION)
        except (PipelineError, ValueError, KeyError):
            return None  # the broker is away: the publisher's own bound holds
        if waiting <= self._limit_bytes:
            return None
        return f"the writer is {waiting / 1e6:.0f} MB behind (PULSAR_HISTORY_BACKLOG_MB)"

    def _full_disk(self) -> str | None:
        for folder in self._folders:
            while not folder.exists():
                folder = folder.parent
            free = shutil.disk_usage(folder).free
            if free < self._min_free:
                return f"only {free / 1e9:.1f} GB are free at {folder} (LIMITS_MIN_FREE_DISK_GB)"
        return None

    def messages_behind(self, topic: str) -> int:
        """Messages that the writer has not stored. Raises `Unavailable`."""
        return self._admin.backlog(topic, SUBSCRIPTION)[0]
