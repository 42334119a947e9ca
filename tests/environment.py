"""The environment of the programs that tests start."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

from tests.forking import Popen

Environment = Callable[..., dict[str, str]]
# Measuring coverage takes each start of a program 0.3 s of processor time more, which is 1.6 times as much, and a busy
# one up to as much again. So each program is measured in a few files; elsewhere the same lines run.
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": ""}
MEASURED = {"COVERAGE_PROCESS_CONFIG": os.environ.get("COVERAGE_PROCESS_CONFIG", "")}  # as this session is
MEASURED_FILES = (
    "binance",
    "certificate",
    "dashboard_api",
    "direct",
    "doctor",
    "dukascopy_follow",
    "dukascopy_gate",
    "dukascopy_progress",
    "live_producers",
    "oanda",
    "oanda_candles",
    "program",
    "retention",
    "status",
    "stream",
    "trade_windows",
    "verify",
)


def keep_in_python() -> None:
    """Let what tests write into `os.environ` stay there, and let the programs that they start get it, by
    `tests.forking`.

    Before glibc 2.41, `setenv` may move the process's environment while a thread of a native library (libpq, the
    client of Pulsar) reads it, which ended a test run by a segmentation fault. So the C library's environment stays as
    it was at the start; nothing in the tests' own process reads from it what a test sets.
    """

    def nothing(*_: bytes) -> None:
        return

    os.putenv = os.unsetenv = nothing
    subprocess.Popen = Popen  # type: ignore[misc]
