"""The private broker and database: they come up, keep data, survive being killed, and are told apart safely."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pulsar
import pytest
import requests

from pipeline.services.broker import Broker
from pipeline.services.instance import Instance
from pipeline.services.processes import Process, end, port_is_free, recorded, wait_until


def test_each_test_has_its_own_migrated_database(services: Instance, database_url: str) -> None:
    """Prevents rows of one test from being seen by the next, and tests against tables of yesterday."""
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM trades").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM migrations").fetchone() != (0,)
    assert database_url not in (services.database_url(), services.database_url("market_data"))


def test_the_broker_maps_its_class_archive(services: Instance) -> None:
    """The JVM ignores an archive that does not fit, in silence: each start then takes half as long again."""
    process = services.broker.process
    assert process is not None
    assert "/classes.jsa" in Path(f"/proc/{process.pid}/maps").read_text()


def test_everything_listens_on_loopback_only(services: Instance) -> None:
    """Prevents a broker or database that the network can reach."""
    heads = [service.process for service in (services.broker, services.database)]
    inodes = {
        str(link.readlink()).removeprefix("socket:[").rstrip("]")
        for process in heads
        if process is not None
        for link in Path(f"/proc/{process.pid}/fd").iterdir()
        if link.is_symlink() and str(link.readlink()).startswith("socket:[")
    }
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                listening.append(fields[1].split(":")[0])
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert len(listening) >= 3
    assert set(listening) <= loopback


def _publish_and_read(instance: Instance, topic: str, text: bytes | None) -> bytes:
    client = instance.pulsar_client()
    try:
        reader = client.subscribe(topic, "look", initial_position=pulsar.InitialPosition.Earliest)
        if text is not None:
            client.create_producer(topic).send(text)
        return bytes(reader.receive(30_000).data())
    finally:
        client.close()


@pytest.mark.faults
def test_data_survives_kill_and_restart(fault_services: Instance, fault_database_url: str) -> None:
    """Prevents a private service that forgets what it acknowledged when it is killed."""
    topic = "persistent://public/default/survivor"
    assert _publish_and_read(fault_services, topic, b"kept") == b"kept"
    with psycopg.connect(fault_database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    fault_services.broker.kill()
    fault_services.database.kill()
    assert fault_services.broker.process is None
    assert fault_services.database.process is None
    fault_services.start()
    with psycopg.connect(fault_database_url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    assert _publish_and_read(fault_services, topic, None) == b"kept"


@pytest.mark.faults
def test_database_stops_in_order_with_a_session_open(fault_services: Instance, fault_database_url: str) -> None:
    """Prevents an open psql from holding up the stop, and a recovery at the next start."""
    connection = psycopg.connect(fault_database_url, autocommit=True)
    connection.execute("SELECT 1")
    fault_services.database.stop()
    assert "database system is shut down" in fault_services.database.log_file.read_text().splitlines()[-1]
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    fault_services.database.start()


@pytest.mark.faults
def test_frozen_services_answer_again(fault_services: Instance) -> None:
    """Prevents a fault test that freezes nothing."""
    assert isinstance(fault_services.broker.what, Broker)
    fault_services.broker.freeze()
    with pytest.raises(requests.Timeout):
        fault_services.broker.what.ask("brokers/health", 2)
    fault_services.broker.thaw()
    fault_services.broker.wait_ready()


def test_a_reused_pid_is_not_ours(tmp_path: Path) -> None:
    """Prevents the end of somebody else's process that got the pid of ours."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        living = Process.of(child.pid)
        assert living is not None
        living.record(tmp_path / "pid")
        assert recorded(tmp_path / "pid") == living
        earlier = Process(child.pid, living.started - 1)
        earlier.record(tmp_path / "pid")
        assert recorded(tmp_path / "pid") is None
        earlier.send(signal.SIGKILL)
        end([earlier], signal.SIGKILL, 0)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_a_process_whose_main_thread_alone_has_ended_is_alive() -> None:
    """Prevents a next start that finds a port taken: of a killed process the main thread may be the first to go."""
    code = (
        "import ctypes, sys, threading; threading.Thread(target=sys.stdin.read).start(); "
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        stat = Path(f"/proc/{child.pid}/stat")
        assert wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z", 30)
        assert Process.of(child.pid) is not None
        child.kill()


def test_a_process_that_ignores_the_polite_signal_is_ended_all_the_same() -> None:
    """Prevents a stop that waits for ever, also for a stopped process."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    os.kill(child.pid, signal.SIGSTOP)
    living = Process.of(child.pid)
    assert living is not None
    end([living], signal.SIGTERM, 0.2)
    assert child.wait(10) == -signal.SIGKILL


def test_a_taken_port_is_seen(services: Instance) -> None:
    """Prevents a service that is started onto somebody else's port."""
    port = int(services.pulsar_url.rsplit(":", 1)[1])
    assert not port_is_free(port)


def test_condition_that_never_comes_true_is_reported() -> None:
    """Prevents a wait that reports success when the time is up."""
    assert not wait_until(lambda: False, 0.05, 0.01)
    assert wait_until(lambda: True, 0)
