"""Progress of a load: a bar per instrument on a terminal, otherwise log lines."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from pipeline.core import events
from pipeline.core.log import get_logger

LINE_EVERY_S = 10.0


class Shown(Protocol):
    """Displays progress. Thread-safe."""

    def begin(self, product: str, hours: int) -> None:
        """Add hours to the total; a negative number removes them."""

    def hour(self, product: str, quotes: int) -> None:
        """Report one hour as done."""

    def close(self) -> None:
        """End the display."""


class Lines:
    """Log lines every ten seconds and at the end of an instrument."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._quotes: dict[str, int] = {}
        self._since: dict[str, float] = {}
        self._said = 0.0

    def begin(self, product: str, hours: int) -> None:
        with self._lock:
            self._total[product] = self._total.get(product, 0) + hours
            self._since.setdefault(product, time.monotonic())

    def hour(self, product: str, quotes: int) -> None:
        with self._lock:
            self._done[product] = self._done.get(product, 0) + 1
            self._quotes[product] = self._quotes.get(product, 0) + quotes
            now = time.monotonic()
            if now - self._said >= LINE_EVERY_S or self._done[product] == self._total.get(product):
                self._said = now
                self._say(product, now)

    def _say(self, product: str, now: float) -> None:
        done, total = self._done[product], self._total[product]
        passed = max(1e-3, now - self._since[product])
        get_logger().info(
            events.LOAD_PROGRESS,
            product=product,
            hours_done=done,
            hours=total,
            quotes=self._quotes[product],
            quotes_per_s=round(self._quotes[product] / passed),
            seconds_left=round(passed / done * (total - done)),
        )

    def close(self) -> None:
        return


class Bars:
    """A line per instrument with bar, hours, quotes per second and time left."""

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("hours"),
            TextColumn("{task.fields[rate]:>9} quotes/s"),
            TimeRemainingColumn(),
            console=console,
        )
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._state: dict[str, list[Any]] = {}  # hours done, quotes, since, hours in all
        self._progress.start()

    def begin(self, product: str, hours: int) -> None:
        with self._lock:
            state = self._state.setdefault(product, [0, 0, time.monotonic(), 0])
            state[3] += hours
            if product not in self._tasks:
                self._tasks[product] = self._progress.add_task(product, total=state[3], rate="")
            self._progress.update(self._tasks[product], total=state[3])

    def hour(self, product: str, quotes: int) -> None:
        with self._lock:
            state = self._state[product]
            state[0] += 1
            state[1] += quotes
            rate = state[1] / max(1e-3, time.monotonic() - state[2])
            self._progress.update(self._tasks[product], completed=state[0], rate=f"{rate:,.0f}")

    def close(self) -> None:
        self._progress.stop()


def shown() -> Shown:
    """Return bars on a terminal, otherwise log lines."""
    return Bars() if sys.stdout.isatty() else Lines()
