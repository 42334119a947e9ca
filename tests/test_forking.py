"""Prevents: a program that behaves otherwise in the tests than started in full."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forking
from tests.environment import Environment

IN_FULL = {"LD_BIND_NOW": "1"}  # read by the loader


@pytest.mark.parametrize(
    "words",
    [
        ["pipeline.verify", "--help"],
        ["pipeline.verify", "--from", "yesterday"],
        ["pipeline.status", "--no-such-flag"],
        ["producers.kraken", "--historical", "--last-n-days", "x"],
        ["dashboard"],
    ],
)
def test_forked_it_says_the_same_and_ends_the_same(env: Environment, tmp_path: Path, words: list[str]) -> None:
    told = []
    for more in ({"DASHBOARD_PORT": "x"}, {"DASHBOARD_PORT": "x", **IN_FULL}):
        child = subprocess.Popen(
            [sys.executable, "-m", *words],
            env=env(**more),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert isinstance(child, forking.Popen)
        assert child.is_forked == (IN_FULL.keys().isdisjoint(more))
        out, err = child.communicate(timeout=60)
        told.append((child.returncode, out, err))
    assert told[0] == told[1]
    assert told[0][1] or told[0][2]


def test_a_signal_ends_it_and_is_told(env: Environment) -> None:
    command = [sys.executable, "-m", "consumers.trades"]
    for number, ended in ((signal.SIGKILL, -9), (signal.SIGTERM, 0)):
        with subprocess.Popen(command, env=env(), stdout=subprocess.PIPE, text=True) as child:
            assert isinstance(child, forking.Popen)
            assert child.is_forked
            assert child.stdout is not None
            assert "process.started" in child.stdout.readline()
            assert child.poll() is None
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.01)
            child.send_signal(number)
            assert child.wait(30) == child.poll() == ended
