"""History gives way: it stops where the writer cannot follow, and goes on by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.settings import PROJECT
from tests.dukascopy_help import BI5, counts, load, states, vendor, warm, writer
from tests.venue_help import Running, running, until

Environment = Callable[..., dict[str, str]]
HOURS = 96  # of some 60 kB each: six times the limit


def test_a_load_pauses_while_the_writer_is_away_and_loses_nothing(
    env: Environment, database_url: str, tmp_path: Path
) -> None:
    """Prevents a disk filled by history that nobody stores, and hours lost where a load was held back."""
    recorded = (BI5 / "EURUSD" / "2019" / "01" / "04" / "08h_ticks.bi5").read_bytes()
    with vendor(lambda path: recorded) as feed:
        environment = env(
            DUKASCOPY_BI5_URL=feed.url, DUKASCOPY_FEED="bi5", DUKASCOPY_MAX_RATE=20, PULSAR_HISTORY_BACKLOG_MB=1
        )
        warm(environment, "bi5", 20)
        with writer(environment):  # it leaves its subscription behind
            first = load(environment, "--instruments", "EURUSD", "--from", "2019-02-04", "--to", "2019-02-04T01")
            assert first.returncode == 0, first.stdout + first.stderr
        (an_hour,) = counts(database_url).values()
        flags = ("--instruments", "EURUSD", "--from", "2019-02-04T01", "--to", "2019-02-08T01")
        often = {"pipeline.broker.backpressure.LOG_EVERY_S": 3}
        with running("producers.dukascopy", environment, tmp_path, *flags, constants=often) as loading:
            loading.wait_for("process.waiting", on="room for history")
            held = len(feed.asked)
            assert held < HOURS / 2
            until("it to be held for long", lambda: len(_held(loading)) >= 2)
            assert len(feed.asked) <= held + 4  # what its four connections had in hand
            assert loading.process.poll() is None
            assert counts(database_url) == {"EUR-USD": an_hour}
            with writer(environment):
                assert loading.process.wait(100) == 0
        assert "MB behind; PULSAR_HISTORY_BACKLOG_MB is 1" in _held(loading)[0]["text"]
    assert states(database_url, "EUR-USD") == {"present": 1 + HOURS}
    assert counts(database_url) == {"EUR-USD": an_hour * (1 + HOURS)}
    assert len(feed.asked) == len(set(feed.asked)) == 1 + HOURS


def _held(loading: Running) -> list[dict[str, Any]]:
    return [line for line in loading.lines("process.waiting") if line["on"] == "room for history"]


_GIVES_WAY = """
import os
from types import SimpleNamespace
from producers.dukascopy.__main__ import _give_way
{before}
_give_way(SimpleNamespace(free=True))
print(os.sched_getscheduler(0) == os.SCHED_IDLE, len(os.sched_getaffinity(0)))
"""
_FORBIDDEN = "def no(*_): raise PermissionError\nos.sched_setaffinity = os.sched_setscheduler = no"


@pytest.mark.parametrize("forbidden", [False, True])
def test_a_folder_is_read_with_what_nobody_else_wants(forbidden: bool) -> None:
    """Niceness alone left the database waiting for a core a fifth of the time; and a container may forbid more."""
    code = _GIVES_WAY.format(before=_FORBIDDEN if forbidden else "")
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    cores = len(os.sched_getaffinity(0))
    assert done.stdout.split() == [str(not forbidden), str(cores if forbidden else cores - cores // 2)]
