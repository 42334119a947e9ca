"""Giving up what blocks when the program should end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.core.errors import Unavailable

T = TypeVar("T")
ENDED_EARLY = "stopped before it was done; run the same command to continue"
"""What a load says that was stopped."""


class Stopped(Exception):
    """The program should end; nothing went wrong."""


def abandonable(
    call: Callable[[], T],
    stop: threading.Event,
    name: str,
    within_s: float | None = None,
    abandon: Callable[[], None] = lambda: None,
) -> T:
    """The result of `call`, which may block; when `stop` is set meanwhile, `Stopped` is raised and it is left alone.

    A blocked connect or answer must not delay the end of the program by its own time-out. After `within_s` it is left
    alone too, with `Unavailable`; `abandon` is then called, to make it end.
    """
    done = threading.Event()
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(call())
        except BaseException as error:
            failure.append(error)
        finally:
            done.set()

    until = None if within_s is None else time.monotonic() + within_s
    # With our context, so that log lines from there name the program too.
    threading.Thread(target=run, name=name, daemon=True).start()
    while not done.wait(0.1):
        if stop.is_set():
            raise Stopped
        if until is not None and time.monotonic() > until:
            abandon()
            raise Unavailable(f"{name}: not done after {within_s:.0f} s")
    if failure:
        raise failure[0]
    return result[0]
