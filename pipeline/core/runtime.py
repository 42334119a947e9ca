"""Common behaviour of all programs: stop on a signal, exit codes.

Exit codes: 0 done, 1 failed, 2 wrong use (option or setting), with one sentence.
"""

from __future__ import annotations

import atexit
import faulthandler
import functools
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec

import psycopg

from pipeline.core import events
from pipeline.core.errors import PipelineError, WrongUse
from pipeline.core.log import configure, get_logger
from pipeline.core.programs import BY_NAME
from pipeline.core.settings import CommonSettings, load

P = ParamSpec("P")
# Time for the shutdown of a supervised program: supervisord kills after 5 s.
END_S = 3.5
_supervised = False
_listening = False  # whether a signal stops this process in an orderly way


# A file with the microseconds by which this process's clock is off: for tests and the judge.
_CLOCK_FILE = os.environ.get("PIPELINE_CLOCK_FILE")
_skew = (0.0, 0)  # when to read the file again, and its last value


def now_us() -> int:
    """Return our time in microseconds since 1970. The only clock used for decisions about data."""
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
    """An event set by SIGTERM or SIGINT. Use `stop.wait(s)` instead of `time.sleep`.

    A second signal ends the process at once. A supervised program that has not ended `END_S` after the first one is
    terminated: nothing is lost by that, and supervisord would send SIGKILL a moment later.
    """

    def __init__(self) -> None:
        super().__init__()
        self._heard = False  # without a lock: the Event's own may be held by the code that the signal interrupts
        self._signals = 0

    def is_set(self) -> bool:
        return self._heard or super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        return self._heard or super().wait(timeout)

    def listen(self) -> Stop:
        """Install the signal handlers and return self. Must be called in the main thread."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)

        def on_signal(number: int, _frame: object) -> None:
            self._signals += 1
            if self._signals > 1:
                os._exit(128 + number)
            self._heard = True
            with suppress(OSError):
                os.write(writing, bytes([number]))

        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)
        # The interpreter itself writes to it, even while the main thread is in a long call.
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=self._hear, args=(reading, _supervised), name="stop", daemon=True).start()
        global _listening
        _listening = True
        return self

    def _hear(self, reading: int, bounded: bool) -> None:
        while not {signal.SIGTERM, signal.SIGINT} & set(os.read(reading, 1)):
            pass  # another signal that has a handler
        self._heard = True
        self.set()
        if bounded:
            # Its thread does not need the GIL, not even during finalization.
            faulthandler.dump_traceback_later(END_S + 0.5, exit=True)
            time.sleep(END_S)
            main = sys._current_frames().get(threading.main_thread().ident or 0)
            where = [f"{frame.f_code.co_qualname}:{line}" for frame, line in traceback.walk_stack(main)][:12]
            alive = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
            get_logger().error(
                events.FAILED,
                error=f"still running {END_S:.1f} s after the signal; terminated",
                main=where,
                threads=alive,
            )
            sys.stdout.flush()
            os._exit(1)


def program(name: str, *, logs: bool = True) -> Callable[[Callable[P, int | None]], Callable[P, None]]:
    """Decorate a click callback: set up logging, and turn errors into sentences and exit codes.

    `logs`: False for a command whose output is its result: errors are not logged then.
    """

    def wrap(main: Callable[P, int | None]) -> Callable[P, None]:
        @functools.wraps(main)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            # Imported objects are not garbage. Measured: traversing them at exit took 0.2 s of a load of one hour.
            gc.freeze()
            code = _guarded(name, lambda: main(*args, **kwargs), logs)
            if _listening:
                _leave(code)
            sys.exit(code)

        return run

    return wrap


def _leave(code: int) -> None:
    """Exit at once, without finalizing the interpreter.

    Finalization ends daemon threads wherever they are, and one inside a C++ or Rust library aborts the process: exit
    code -6 after an orderly end, "FATAL: exception not rethrown". Seen with the watchdog on a busy machine.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, by us or by the reader
            stream.flush()
    os._exit(code)


def _guarded(name: str, main: Callable[[], int | None], logs: bool) -> int:
    global _supervised
    _supervised = name in BY_NAME
    os.umask(0o077)  # what it writes is for us alone, also when it is started by hand
    try:
        configure(load(CommonSettings), name)
        return main() or 0
    except WrongUse as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except PipelineError as error:
        if logs:
            get_logger().error(events.FAILED, error=str(error), kind=type(error).__name__)
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except psycopg.OperationalError as error:  # a lost connection, a lock that somebody holds, a full disk
        text = " ".join(str(error).split())
        if logs:
            get_logger().error(events.FAILED, error=text, kind=type(error).__name__)
        print(f"{name}: the database: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
