"""Abandon blocking calls when the program should stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.core.errors import Unavailable

T = TypeVar("T")
ENDED_EARLY = "stopped before it was done; run the same command to continue"
"""Text of a load that was stopped."""


class Stopped(Exception):
    """The program should stop; not an error."""


def abandonable(
    call: Callable[[], T],
    stop: threading.Event,
    name: str,
    within_s: float | None = None,
    abandon: Callable[[], None] = lambda: None,
) -> T:
    """Return the result of `call`, which runs in another thread and may block. Raises `Stopped` when `stop` is set.

    A blocked connect or request must not delay the shutdown by its own timeout. After `within_s` the call is abandoned
    too, with `Unavailable`; then `abandon` is called to end it.
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
    threading.Thread(target=run, name=name, daemon=True).start()
    while not done.wait(0.1):
        if stop.is_set():
            raise Stopped
        if until is not None and time.monotonic() > until:
            abandon()
            raise Unavailable(f"{name}: timed out after {within_s:.0f} s")
    if failure:
        raise failure[0]
    return result[0]
