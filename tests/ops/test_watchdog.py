"""The watchdog kills what is silent, and nothing else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.settings import PROJECT, is_setting
from pipeline.services import local_http
from pipeline.services.broker import Broker
from pipeline.services.instance import Instance
from pipeline.services.processes import Process, free_ports, wait_until
from pipeline.watchdog import Asker, Watch, answers, database_answers


@pytest.fixture
def process() -> Iterator[Process]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
    living = Process.of(child.pid)
    assert living is not None
    yield living
    child.kill()
    child.wait()


class Looks:
    """A watch over one process `x`, asked every second."""

    def __init__(self, process: Process, silence: float, grace: float) -> None:
        self.watch, self.process, self.now_s = Watch(silence, grace), process, 0.0

    def silent_after(self, seconds: int, *, answers: bool = False, serving: bool = True) -> bool:
        """Whether it was found silent too long at one of so many looks."""
        found = False
        for _ in range(seconds):
            self.now_s += 1
            found = found or bool(self.watch.look({"x": self.process}, lambda *_: answers, serving, self.now_s))
        return found


def test_a_new_process_is_given_time_to_come_up(process: Process) -> None:
    """Prevents a program from being killed again and again because it needs long to start."""
    looks = Looks(process, silence=10, grace=60)
    assert not looks.silent_after(61)
    assert looks.silent_after(2)


def test_silence_counts_from_the_last_answer(process: Process) -> None:
    """Prevents both: a kill after one missed answer, and a grace that never ends."""
    looks = Looks(process, silence=10, grace=60)
    assert not looks.silent_after(5)
    assert not looks.silent_after(2, answers=True)
    assert not looks.silent_after(10, serving=False)
    assert looks.silent_after(1, serving=False)


def test_what_waits_for_dead_services_is_left_alone(process: Process) -> None:
    """Prevents a program from being killed every two minutes because the broker is down: seen with exchange-candles."""
    looks = Looks(process, silence=10, grace=60)
    assert not looks.silent_after(10_000, serving=False)
    assert not looks.silent_after(60)
    assert looks.silent_after(1)


def test_each_kill_within_the_grace_doubles_it(process: Process) -> None:
    """Prevents a broker that needs three minutes for its journal from being killed in each start for ever."""
    looks = Looks(process, silence=10, grace=60)
    assert looks.silent_after(62)
    looks.watch.kill("x")
    looks.process = Process(process.pid, process.started + 1)
    assert not looks.silent_after(121)
    assert looks.silent_after(1)
    looks.silent_after(1, answers=True)
    assert looks.watch.graces == {}


def test_a_watchdog_that_stood_still_blames_nobody(process: Process) -> None:
    """Prevents the kill of everything after the machine slept, or the watchdog was frozen."""
    looks = Looks(process, silence=30, grace=60)
    looks.silent_after(5, answers=True)
    looks.now_s += 10_000
    assert not looks.silent_after(1)
    assert looks.silent_after(30)


def test_a_restarted_process_starts_with_a_clean_record(process: Process) -> None:
    """Prevents the new process from being killed for the silence of the old one."""
    looks = Looks(process, silence=10, grace=60)
    looks.silent_after(2, answers=True)
    looks.silent_after(9)
    looks.process = Process(process.pid, process.started + 1)
    assert not looks.silent_after(40)


def test_the_silent_one_is_killed_and_the_answering_one_is_not(process: Process) -> None:
    """Prevents a watchdog that only talks, or that bites the wrong one."""
    watch = Watch(silence=0, grace=0)
    own = Process.of(os.getpid())
    assert own is not None
    for now_s in (1.0, 2.0, 3.0):
        for name in watch.look({"silent": process, "well": own}, lambda name, *_: name == "well", True, now_s):
            watch.kill(name)
    assert watch.killed == {"silent": 1}
    assert wait_until(lambda: not process.alive, 10)


def test_an_answer_to_an_older_question_is_not_of_this_process() -> None:
    """Prevents the answer of a process that ended from speaking for its successor, which then gets no grace."""
    asker = Asker("x", lambda: True)
    before = time.monotonic()
    asker.start()
    assert wait_until(lambda: asker.answered(before, before), 10)
    assert not asker.answered(time.monotonic(), before)


def test_it_stops_at_once_while_nothing_answers(tmp_path: Path) -> None:
    """Prevents a stop by force: seen once on a busy machine. The watchdog waited for its last questions, up to ten
    seconds, before it ended, and supervisord gives five."""
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections and says nothing
        environment = {key: value for key, value in os.environ.items() if not is_setting(key)} | {
            "ENV_FILE": os.devnull,
            "SERVICES_DATA": str(tmp_path),
            "METRICS_BASE_PORT": str(free_ports(1)[0] - 10),
            "PULSAR_ADMIN_PORT": str(mute.getsockname()[1]),
            "DATABASE_PORT": str(mute.getsockname()[1]),
            "SUPERVISOR_SERVER_URL": f"unix://{tmp_path / 'none'}",
        }
        mute.settimeout(60)
        patient = "from pipeline import watchdog; watchdog.ANSWER_WITHIN_S = 10_000; watchdog.main()"
        child = subprocess.Popen([sys.executable, "-c", patient], env=environment, cwd=PROJECT)
        try:
            asked = [mute.accept()[0] for _ in range(2)]
            child.terminate()
            assert child.wait(100) == 0
        finally:
            child.kill()
            for connection in asked:
                connection.close()


def test_an_unwell_answer_is_an_answer(services: Instance) -> None:
    """Prevents the kill of a program that says 503, or of a broker for an unknown path; a closed port is silence."""
    assert isinstance(services.broker.what, Broker)
    assert answers(services.broker.what.ask, "no/such/path")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert not answers(local_http.ask, f"http://127.0.0.1:{closed.getsockname()[1]}/health")


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
