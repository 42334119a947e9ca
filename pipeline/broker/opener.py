"""Threads that open publishers, and reopen failed ones, so that nothing else has to wait for it."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from typing import Protocol

# A topic whose broker does not answer occupies a thread for the client's timeout of 10 s.
THREADS = 4


class Opened(Protocol):
    """Something that is opened in the background."""

    def open_once(self) -> float | None:
        """Make one attempt, in one of the opener's threads. Returns the seconds until the next attempt, or None if
        done. Must not raise."""


class Opener:
    """Runs attempts when they are due. Thread-safe."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._due: list[tuple[float, int, Opened]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def start(self) -> None:
        """Start the threads. Not done by `later`, which is called from the client's threads and must not block."""
        with self._changed:
            while len(self._threads) < THREADS:
                thread = threading.Thread(target=self._run, name=f"open-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def later(self, what: Opened, seconds: float) -> None:
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), what))
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify_all()

    def dead(self) -> list[str]:
        """Return the names of threads that have died."""
        if self._closed or self._stop.is_set():
            return []
        return [thread.name for thread in self._threads if not thread.is_alive()]

    def _next(self) -> Opened | None:
        with self._changed:
            while not self._closed:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(wait)
        return None

    def _run(self) -> None:
        while (what := self._next()) is not None:
            again = what.open_once()
            if again is not None and not self._stop.is_set():
                self.later(what, again)
