"""Progress of a load: a bar for each task on a terminal, otherwise log lines."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from pipeline.core import events
from pipeline.core.log import get_logger

LOG_EVERY_S = 10.0


@dataclass(slots=True)
class Task:
    """The state of a task: `done` of `total` steps, `already` of them before this run, and the rows they brought.

    `line`: its progress bar; `since`: when it began (monotonic).
    """

    line: TaskID
    total: int = 0
    done: int = 0
    already: int = 0
    rows: int = 0
    since: float = field(default_factory=time.monotonic)

    @property
    def rows_per_s(self) -> float:
        return self.rows / max(1e-3, time.monotonic() - self.since)

    @property
    def seconds_left(self) -> int | None:
        """Estimate at the speed so far; None before the first step."""
        came = self.done - self.already
        return round((time.monotonic() - self.since) / came * (self.total - self.done)) if came else None


class Progress:
    """Context manager that shows tasks by name, with steps done, rows per second and time left. Thread-safe.

    `steps` and `rows` are the words for what is counted ("hours" and "quotes", often the same word). Log lines are
    written at the first step, every ten seconds and at the end of a task. `bars`: True shows bars, False log lines;
    None decides by whether stdout is a terminal.
    """

    def __init__(self, steps: str, rows: str, *, bars: bool | None = None) -> None:
        self._steps, self._rows = steps, rows
        self._lock = threading.Lock()
        self._tasks: dict[str, Task] = {}
        self._logged = 0.0
        self.on_terminal = sys.stdout.isatty() if bars is None else bars
        self._bars = RichProgress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(steps),
            TextColumn(f"{{task.fields[rate]:>9}} {rows}/s"),
            TimeRemainingColumn(),
            disable=not self.on_terminal,
        )

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def expect(self, name: str, steps: int, already: int = 0) -> Task:
        """Add steps to the total of a task, `already` of them done before; a negative number takes steps away."""
        with self._lock:
            if name not in self._tasks:
                self._tasks[name] = Task(self._bars.add_task(name, rate=""))
            task = self._tasks[name]
            task.total += steps
            task.done += already
            task.already += already
            self._bars.update(task.line, total=task.total, completed=task.done)
            return task

    def advance(self, name: str, steps: int, rows: int | None = None) -> None:
        """Report steps of a task as done, with the rows that they brought (by default one each)."""
        with self._lock:
            task = self._tasks[name]
            task.done += steps
            task.rows += steps if rows is None else rows
            task.total = max(task.total, task.done)
            self._bars.update(task.line, completed=task.done, total=task.total, rate=f"{task.rows_per_s:,.0f}")
            if not self.on_terminal:
                self._log(name, task)

    def _log(self, name: str, task: Task) -> None:
        now = time.monotonic()
        if now - self._logged < LOG_EVERY_S and task.done < task.total:
            return
        self._logged = now
        get_logger().info(
            events.LOAD_PROGRESS,
            load=name,
            unit=self._steps,
            done=task.done,
            total=task.total,
            rows=task.rows,
            rows_per_s=round(task.rows_per_s),
            seconds_left=task.seconds_left,
        )
