"""What each program does the same way: stop on a signal, exit codes.

Exit codes: 0 done, 1 failed, 2 wrong use (flag or setting), with one clear sentence.
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

from pipeline.core import events
from pipeline.core.errors import PipelineError, WrongUse
from pipeline.core.log import configure, get_logger, redact
from pipeline.core.programs import BY_NAME
from pipeline.core.settings import CommonSettings, load

P = ParamSpec("P")
# A supervised program's end after its signal: supervisord kills after 5 s.
END_S = 3.5
_supervised = False
_listening = False  # this process is a program that a signal stops


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

    A second signal within the same process ends it at once. A supervised program that has not ended `END_S` after the
    first one is ended: nothing is lost by that, and supervisord would do it with SIGKILL a moment later.
    """

    def __init__(self) -> None:
        super().__init__()
        self._heard = False  # without a lock: an Event's own may be held by the very code that the signal interrupts
        self._signals = 0

    def is_set(self) -> bool:
        return self._heard or super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        return self._heard or super().wait(timeout)

    def listen(self) -> Stop:
        """From now on. Called in the main thread."""
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
        # Written by the interpreter itself, also while the main thread is inside a call that takes its time.
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
            # From a thread of its own that needs no lock of the interpreter's, not even while that is finalised.
            faulthandler.dump_traceback_later(END_S + 0.5, exit=True)
            time.sleep(END_S)
            main = sys._current_frames().get(threading.main_thread().ident or 0)
            where = [f"{frame.f_code.co_qualname}:{line}" for frame, line in traceback.walk_stack(main)][:12]
            alive = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
            get_logger().error(
                events.FAILED, error=f"not ended {END_S:.1f} s after the signal, so ended", main=where, threads=alive
            )
            sys.stdout.flush()
            os._exit(1)


def program(name: str, *, logs: bool = True) -> Callable[[Callable[P, int | None]], Callable[P, None]]:
    """Decorator of a click callback: logging set up, errors become sentences and exit codes.

    `logs`: False for a tool whose output is its result, which is then all that it prints.
    """

    def wrap(main: Callable[P, int | None]) -> Callable[P, None]:
        @functools.wraps(main)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            # What was imported is no garbage: walking it at the exit took a load of one hour a fifth of a second.
            gc.freeze()
            code = _guarded(name, lambda: main(*args, **kwargs), logs)
            if _listening:
                _leave(code)
            sys.exit(code)

        return run

    return wrap


def _leave(code: int) -> None:
    """End here, waiting for no thread, instead of taking the interpreter apart.

    That ends daemon threads wherever they are, and one inside a library of C++ or Rust takes the process with it: exit
    code -6 after an orderly end, "FATAL: exception not rethrown". Seen with the watchdog on a busy machine.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads any more, or closed
            stream.flush()
    os._exit(code)


def _guarded(name: str, main: Callable[[], int | None], logs: bool) -> int:
    global _supervised
    _supervised = name in BY_NAME
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
