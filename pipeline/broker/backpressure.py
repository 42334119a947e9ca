"""History holds back where it would hurt: a backlog that the writers cannot follow, or a disk that fills up."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

from pipeline.broker.admin import Admin
from pipeline.core import events
from pipeline.core.errors import PipelineError
from pipeline.core.log import get_logger
from pipeline.core.settings import DatabaseSettings, LimitSettings, PulsarSettings, ServicesSettings, load

WRITER = "writer"  # the subscription of `consumers.subscription`
LOOK_EVERY_S = 5.0


class Brake:
    """Asked before each piece of history; live data never asks."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._pulsar, self._limits = load(PulsarSettings), load(LimitSettings)
        private = self._pulsar.private or load(DatabaseSettings).private
        self._folder: Path | None = load(ServicesSettings).data if private else None
        self._admin = Admin(self._pulsar)
        self._next_look: dict[str, float] = {}

    def wait(self, topic: str) -> None:
        """Return when `topic` may be given more history, or when stopped."""
        now = time.monotonic()
        if now < self._next_look.get(topic, 0.0):
            return
        said = False
        while (reason := self._reason(topic)) and not self._stop.is_set():
            if not said:
                get_logger().warning(events.WAITING, on="room for history", topic=topic, reason=reason)
                said = True
            self._stop.wait(LOOK_EVERY_S)
        self._next_look[topic] = time.monotonic() + LOOK_EVERY_S

    def _reason(self, topic: str) -> str | None:
        if self._folder is not None:
            there = next((path for path in (self._folder, *self._folder.parents) if path.exists()), Path("/"))
            free_gb = shutil.disk_usage(there).free / 1e9
            if free_gb < self._limits.min_free_disk_gb:
                return f"{free_gb:.1f} GB of disk are left; LIMITS_MIN_FREE_DISK_GB is {self._limits.min_free_disk_gb}"
        try:
            _, size = self._admin.backlog(topic, WRITER)
        except PipelineError:
            return None  # who may not ask is not held back
        if size > self._pulsar.history_backlog_mb * 1_000_000:
            return f"backlog of {size // 1_000_000} MB; PULSAR_HISTORY_BACKLOG_MB is {self._pulsar.history_backlog_mb}"
        return None
