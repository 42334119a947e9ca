"""A program that should end must hear it, whatever it is doing, and end in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from pipeline.core.runtime import Stop
from pipeline.core.settings import PROJECT


@pytest.fixture
def stop() -> Iterator[Stop]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield Stop().listen()
    signal.set_wakeup_fd(-1)
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_a_signal_while_the_event_is_being_looked_at_does_not_hang(stop: Stop) -> None:
    """`Event.set` in a signal handler waits for a lock that the interrupted code holds, which goes on only after it."""
    with stop._cond:  # type: ignore[attr-defined]
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_set()
        assert stop.wait(0)
    assert threading.Event.wait(stop, 30)  # and threads that wait for it are woken


def test_who_waits_is_woken_by_the_signal(stop: Stop) -> None:
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert stop.wait(30)


def run(text: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", text], cwd=PROJECT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


HANGING = """
import ctypes, sys, threading, time
from pipeline.core.runtime import Stop, program
@program("kraken")
def main():
    Stop().listen()
    print("ready", flush=True)
    {}
main()
"""


IN_A_CALL = (
    "mutex = ctypes.create_string_buffer(64); lock = ctypes.CDLL(None).pthread_mutex_lock; lock(mutex); lock(mutex)"
)


@pytest.mark.parametrize("hangs", ["threading.Event().wait()", IN_A_CALL], ids=["waits", "inside a call"])
def test_a_supervised_program_that_hangs_ends_by_itself(hangs: str) -> None:
    """supervisord would end it with SIGKILL, which looks like an accident in every log. Inside a call no handler of
    Python's runs."""
    process = run(HANGING.format(hangs))
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "still running" in out


def test_a_second_signal_ends_it_at_once() -> None:
    process = run(HANGING.format("threading.Event().wait()"))
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM, 1)
