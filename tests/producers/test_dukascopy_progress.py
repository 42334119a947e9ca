"""What a person sees of a load: a bar on a terminal, lines in a log."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable

from pipeline.core.settings import PROJECT
from simulator.testing import running_simulator
from tests.dukascopy_help import load, warm, writer

Environment = Callable[..., dict[str, str]]
DAY = ("--instruments", "EURUSD", "--from", "2019-02-04", "--to", "2019-02-05")


def test_a_terminal_shows_a_bar_with_hours_rate_and_time_left(env: Environment) -> None:
    """Prevents a load of hours that tells a person nothing, or shows control characters to a log."""
    with running_simulator() as simulator:
        environment = env(**simulator.environment(), DUKASCOPY_FEED="bi5", DUKASCOPY_MAX_RATE=8)
        environment |= {"TERM": "xterm-256color", "COLUMNS": "110", "LOG_FORMAT": "auto"}
        warm(environment, "bi5", 8)
        ours, theirs = os.openpty()
        with writer(environment):
            command = [sys.executable, "-m", "producers.dukascopy", *DAY]
            with subprocess.Popen(command, env=environment, cwd=PROJECT, stdout=theirs, stderr=theirs) as process:
                os.close(theirs)
                shown = _all_of(ours)
                assert process.wait(60) == 0, shown
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    seen = re.findall(r"EUR-USD +[━╸╺ ]+ +(\d+)/24 hours +([\d,]*) quotes/s +(-:--:--|\d+:\d\d:\d\d)", text)
    assert seen, text
    done = [int(count) for count, _, _ in seen]
    assert done == sorted(done)
    assert done[-1] == 24
    under_way = [(rate, left) for count, rate, left in seen if 0 < int(count) < 24]
    assert any(rate and left != "-:--:--" for rate, left in under_way), text
    assert int(seen[-1][1].replace(",", "")) > 0
    logged = [line for line in text.splitlines() if "process.started" in line or "load.done" in line]
    assert len(logged) == 2
    assert not any("━" in line for line in logged), logged  # above the bar, not inside it


def _all_of(terminal: int) -> str:
    """What is written to a terminal until nobody has it open any more."""
    parts = []
    try:
        while data := os.read(terminal, 65536):
            parts.append(data)
    except OSError:  # that is how a terminal says so
        pass
    os.close(terminal)
    return b"".join(parts).decode()


def test_a_log_gets_lines_instead(env: Environment) -> None:
    """Prevents bars in log files, and lines without the figures that a bar shows."""
    with running_simulator() as simulator:
        environment = env(**simulator.environment(), DUKASCOPY_FEED="bi5", DUKASCOPY_MAX_RATE=100)
        warm(environment, "bi5", 100)
        with writer(environment):
            done = load(environment, *DAY)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    lines = [line for text in done.stdout.splitlines() if (line := json.loads(text))["event"] == "load.progress"]
    assert {line["program"] for line in lines} == {"dukascopy"}  # they come from worker threads
    assert [line["load"] for line in lines] == ["EUR-USD"] * len(lines)
    assert lines[0]["done"] < lines[-1]["done"] == lines[-1]["total"] == 24
    assert (lines[-1]["rows"], lines[-1]["seconds_left"]) == (136_741, 0)
    assert all(line["rows_per_s"] > 0 for line in lines)
