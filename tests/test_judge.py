"""Prevents: faults that lose, double or corrupt what is stored; a judge that would not notice.

The long version is `scripts/judge`; its record is in docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import UNMEASURED

from judge import plan
from judge.proxy import Proxy
from pipeline.settings import PROJECT


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_short_run_of_the_whole_pipeline(python: str, tmp_path: Path) -> None:
    """How soon it settles is not asked here: the machine may be busy with other tests."""
    report = tmp_path / "report.json"
    command = [python, "-m", "judge", "--minutes", "0.5", "--seed", "7", "--faults", "6", "--longest", "6"]
    command += ["--settle", "400", "--report", str(report)]
    environment = os.environ | UNMEASURED
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, env=environment, timeout=1190)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    told = json.loads(report.read_text())
    assert told["differences"] == []
    assert told["trades"] > 0
    assert told["quotes"] == 136_741 + 14_716


def test_a_seed_gives_one_plan_which_can_be_replayed() -> None:
    """Prevents: a counter-example that cannot be struck again."""
    made = plan.make(5, 600.0, 300, disk=True, longest_s=120.0)
    assert made == plan.make(5, 600.0, 300, disk=True, longest_s=120.0)
    assert made != plan.make(6, 600.0, 300, disk=True, longest_s=120.0)
    written = json.loads(json.dumps(plan.as_json(5, 600.0, made)))
    assert plan.from_json(written) == (5, 600.0, made)


def test_every_kind_of_fault_strikes() -> None:
    made = plan.make(5, 600.0, 300, disk=True, longest_s=120.0)
    assert {fault.kind for fault in made} == {
        "kill", "freeze", "freeze_for_ever", "kill_supervisord", "cut", "stall", "stream", "rest", "poison", "clock",
        "hole", "disk_full",
    }  # fmt: skip
    assert not [fault for fault in plan.make(5, 600.0, 300, disk=False, longest_s=120.0) if fault.kind == "disk_full"]
    # the tape begins an hour ago: jumps past the machine's clock would make its trades impossible
    assert sum(fault.options["jump"] for fault in made if fault.kind == "clock") <= plan.LONGEST_JUMPS_S


@pytest.fixture
def echo() -> Iterator[Proxy]:
    """A proxy in front of a server that sends back what it gets."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1000):
                    connection.sendall(data)
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    yield Proxy(server.getsockname()[1])
    server.close()


def test_the_proxy_passes_stalls_and_cuts(echo: Proxy) -> None:
    """Prevents: a fault of the judge that strikes nothing."""
    with socket.create_connection(("127.0.0.1", echo.port), timeout=10) as client:
        client.sendall(b"one")
        assert client.recv(10) == b"one"
        echo.stall()
        client.settimeout(0.5)
        client.sendall(b"two")
        with pytest.raises(TimeoutError):
            client.recv(10)
        client.settimeout(10)
        echo.flow()
        assert client.recv(10) == b"two"
        echo.cut()
        try:
            ended = client.recv(10) == b""
        except ConnectionError:
            ended = True
        assert ended
