"""The watchdog kills what is silent, and nothing else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.services.instance import Instance
from pipeline.services.processes import Process, wait_until
from pipeline.watchdog import Watch, database_answers, http_answers, look


@pytest.fixture
def process() -> Iterator[Process]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
    living = Process.of(child.pid)
    assert living is not None
    yield living
    child.kill()
    child.wait()


def test_a_new_process_is_given_time_to_come_up(process: Process) -> None:
    """Prevents a program from being killed again and again because it needs long to start."""
    watch = Watch(silence=10, grace=60)
    assert not watch.silent(process, "x", answered=False, now=0)
    assert not watch.silent(process, "x", answered=False, now=59)
    assert watch.silent(process, "x", answered=False, now=61)


def test_silence_counts_from_the_last_answer(process: Process) -> None:
    """Prevents both: a kill after one missed answer, and a grace that never ends."""
    watch = Watch(silence=10, grace=60)
    watch.silent(process, "x", answered=False, now=0)
    assert not watch.silent(process, "x", answered=True, now=5)
    assert not watch.silent(process, "x", answered=False, now=14)
    assert watch.silent(process, "x", answered=False, now=16)


def test_a_restarted_process_starts_with_a_clean_record(process: Process) -> None:
    """Prevents the new process from being killed for the silence of the old one."""
    watch = Watch(silence=10, grace=60)
    watch.silent(process, "x", answered=True, now=0)
    newer = Process(process.pid, process.started + 1)
    assert not watch.silent(newer, "x", answered=False, now=20)


def test_the_silent_one_is_killed_and_the_answering_one_is_not(process: Process) -> None:
    """Prevents a watchdog that only talks, or that bites the wrong one."""
    watch = Watch(silence=0, grace=0)
    own = Process.of(os.getpid())
    assert own is not None
    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            look(watch, {"silent": process, "well": own}, {"silent": lambda: False, "well": lambda: True}, pool)
    assert watch.killed.keys() == {"silent"}
    assert wait_until(lambda: not process.alive, 10)


def test_an_unwell_answer_is_an_answer(services: Instance) -> None:
    """Prevents the kill of a program that says 503, or of a broker for an unknown path; a closed port is silence."""
    assert http_answers(f"{services.pulsar_admin_url}/no/such/path")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert not http_answers(f"http://127.0.0.1:{closed.getsockname()[1]}/health")


def test_a_database_error_is_an_answer_and_a_closed_port_is_none(services: Instance) -> None:
    """Prevents the kill of a database that is starting up or out of connections."""
    assert database_answers(services.database_url())
    assert database_answers(services.database_url("no_such_database"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert not database_answers(f"postgresql://postgres@127.0.0.1:{closed.getsockname()[1]}/x")


@pytest.mark.faults
def test_a_frozen_database_is_silent(fault_services: Instance) -> None:
    """Prevents a watchdog that is frozen by what it watches."""
    fault_services.database.freeze()
    try:
        assert not database_answers(fault_services.database_url())
    finally:
        fault_services.database.thaw()
    fault_services.database.wait_ready()


def test_signals_reach_only_the_recorded_process(process: Process) -> None:
    """Prevents a signal to whoever has the pid now."""
    Process(process.pid, process.started + 1).send(signal.SIGKILL)
    assert process.alive
