"""The environment of the programs that tests start."""

from __future__ import annotations

import os
from collections.abc import Callable

Environment = Callable[..., dict[str, str]]
# Measuring coverage takes each start of a program 0.3 s of processor time more, which is 1.6 times as much, and a busy
# one up to as much again. Left out where many run at once, and where the same lines run in other files' programs too.
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": ""}
MEASURED = {"COVERAGE_PROCESS_CONFIG": os.environ.get("COVERAGE_PROCESS_CONFIG", "")}  # as this session is
UNMEASURED_FILES = (
    "direct_kills",
    "dukascopy_empty",
    "dukascopy_kill",
    "dukascopy_load",
    "dukascopy_truth",
    "exchange_candles_faults",
    "hostile_venue",
    "kills",
    "live_faults",
    "settings",
    "silent_stop",
    "whole",
    "wrong_words",
)
