"""Progress of a load: a bar on a terminal, otherwise a log line every few seconds."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.core import events
from pipeline.core.log import get_logger

LOG_EVERY_S = 5.0


class LoadProgress:
    """Context manager that shows rows done of a total, rate and time left. `already`: rows stored before the start."""

    def __init__(self, what: str, total: int, already: int = 0) -> None:
        self.what, self.total, self.done, self._already = what, total, already, already
        self._started = time.monotonic()
        self._next_log = self._started + LOG_EVERY_S
        self._bar: Progress | None = None
        if sys.stdout.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}/s"),
                TimeRemainingColumn(),
            )
            self._task = self._bar.add_task(what, total=total, completed=already, rate=0)

    def __enter__(self) -> LoadProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    @property
    def on_terminal(self) -> bool:
        return self._bar is not None

    @property
    def came(self) -> int:
        """Rows of this run."""
        return self.done - self._already

    @property
    def rate(self) -> float:
        """Rows per second since the start."""
        return self.came / max(1e-6, time.monotonic() - self._started)

    def add(self, rows: int) -> None:
        self.done += rows
        self.total = max(self.total, self.done)
        if self._bar:
            self._bar.update(self._task, completed=self.done, total=self.total, rate=f"{self.rate:,.0f}")
        elif time.monotonic() >= self._next_log:
            self._next_log = time.monotonic() + LOG_EVERY_S
            left = self.total - self.done
            get_logger().info(
                events.LOAD_PROGRESS,
                load=self.what,
                done=self.done,
                total=self.total,
                rows_per_s=round(self.rate),
                seconds_left=round(left / self.rate) if self.rate else None,
            )
