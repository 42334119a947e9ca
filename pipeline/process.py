"""What each program does the same way: stop on a signal, exit codes, waiting.

Exit codes: 0 done, 1 failed, 2 wrong use (flag or setting), with one clear sentence.
"""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

from pipeline import events
from pipeline.errors import PipelineError, WrongUse
from pipeline.log import configure, get_logger, redact
from pipeline.settings import CommonSettings, load

P = ParamSpec("P")
SAY_EVERY_S = 10.0  # while waiting for one thing


# A file with the microseconds by which this process's clock is wrong: for tests and the judge, who turn it.
_CLOCK_FILE = os.environ.get("PIPELINE_CLOCK_FILE")
_skew = (0.0, 0)  # when the file is read again, and what it said


def now_us() -> int:
    """Our clock, microseconds since 1970. Whatever judges data asks here and nowhere else."""
    return time.time_ns() // 1000 + (_skew_us(_CLOCK_FILE) if _CLOCK_FILE else 0)


def _skew_us(file: str) -> int:
    global _skew
    now_s = time.monotonic()
    if now_s >= _skew[0]:
        try:
            _skew = (now_s + 0.1, int(Path(file).read_text()))
        except (OSError, ValueError):
            _skew = (now_s + 0.1, 0)
    return _skew[1]


class Stop(threading.Event):
    """Set by SIGTERM or SIGINT. `stop.wait(s)` is the sleep to use everywhere.

    A second signal within the same process ends it at once.
    """

    def listen(self) -> Stop:
        def on_signal(number: int, _frame: object) -> None:
            if self.is_set():
                os._exit(128 + number)
            self.set()

        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)
        return self


def program(name: str, *, logs: bool = True) -> Callable[[Callable[P, int | None]], Callable[P, None]]:
    """Decorator of a click callback: logging set up, errors become sentences and exit codes.

    `logs`: False for a tool whose output is its result, which is then all that it prints.
    """

    def wrap(main: Callable[P, int | None]) -> Callable[P, None]:
        @functools.wraps(main)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            # What was imported is no garbage: walking it at the exit took a load of one hour a fifth of a second.
            gc.freeze()
            sys.exit(_guarded(name, lambda: main(*args, **kwargs), logs))

        return run

    return wrap


def _guarded(name: str, main: Callable[[], int | None], logs: bool) -> int:
    try:
        configure(load(CommonSettings), name)
        return main() or 0
    except WrongUse as error:
        print(f"{name}: {redact(str(error))}", file=sys.stderr)
        return 2
    except PipelineError as error:
        if logs:
            get_logger().error(events.FAILED, error=redact(str(error)), kind=type(error).__name__)
        print(f"{name}: {redact(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def keep_trying(
    what: str,
    attempt: Callable[[], Any],
    stop: threading.Event,
    *,
    retry_on: tuple[type[Exception], ...],
    event: str = events.WAITING,
    first_s: float = 0.2,
    cap_s: float = 10.0,
) -> Any:
    """Call `attempt` until it succeeds; between two calls wait longer each time. Returns None when stopped.

    For things that a supervised program waits for while staying alive (broker, database). Requests to venues have
    their own rules, see `producers.http`.
    """
    delay = first_s
    said = 0.0
    while not stop.is_set():
        try:
            return attempt()
        except retry_on as error:
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                get_logger().warning(event, on=what, error=redact(str(error)) or type(error).__name__)
            stop.wait(delay)
            delay = min(cap_s, delay * 1.7)
    return None
