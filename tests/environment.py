"""The environment of the programs that tests start."""

from __future__ import annotations

from collections.abc import Callable

Environment = Callable[..., dict[str, str]]
# Measuring coverage takes a program up to as much processor time again. Left out where many run at once, and in files
# whose programs run the same lines in other files too.
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": ""}
