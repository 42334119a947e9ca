"""Before anything starts: what an earlier supervisord left is ended, and every port that is needed is free.

supervisord starts all its programs at once and knows no order, so the first of them does this for all, and the
others wait for its finding.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from pipeline import demo
from pipeline.errors import WrongUse
from pipeline.services import private
from pipeline.services.cache import locked
from pipeline.services.processes import Process, end, port_is_free, recorded, wait_until, working_in
from pipeline.settings import DashboardSettings, check_all, load


def records() -> Path:
    """The folder with one file per program: pid and start time of the process that runs it."""
    return private.data_folder() / "run"


def record_of(name: str) -> Path:
    return records() / f"{name}.pid"


def _holder() -> Path:
    return records() / "supervisord"


def begun_at() -> float:
    """When the present supervisord started its first program, Unix seconds; 0 without one."""
    try:
        return _holder().stat().st_mtime
    except OSError:
        return 0.0


def needed_ports() -> dict[int, str]:
    """Ports that are about to be used, each with the setting that moves it."""
    ports: dict[int, str] = {}
    for service in (private.broker(), private.database()):
        ports |= service.ports if service else {}
    for program in demo.programs().values():
        if program.enabled and program.port and demo.exists(program):
            ports[program.port] = "METRICS_BASE_PORT"
    if demo.active():
        ports[demo.simulator_port()] = "SIMULATOR_PORT"
    if (port := load(DashboardSettings).port) and demo.exists(demo.programs()["dashboard"]):
        ports[port] = "DASHBOARD_PORT"
    return ports


def end_leftovers() -> None:
    """End the processes that an earlier supervisord of this checkout recorded and that still live."""
    left = {file.stem: process for file in records().glob("*.pid") if (process := recorded(file))}
    database = left.pop("database", None)
    end(left.values(), signal.SIGTERM, 5)
    end([database] if database else [], signal.SIGINT, 10)
    if (service := private.database()) is not None:
        for folder in service.leftovers():
            end(working_in(folder), signal.SIGTERM, 5)


def check_ports() -> None:
    """Raise `WrongUse` with one sentence per port that somebody else holds."""
    taken = {port: name for port, name in needed_ports().items() if not wait_until(lambda p=port: port_is_free(p), 1)}  # type: ignore[misc]
    if taken:
        raise WrongUse(
            "\n".join(f"Port {port} is taken by another program: end that, or set {name} to a free one."
                      for port, name in taken.items())
        )  # fmt: skip


def pass_gate(supervisor: Process | None) -> None:
    """Make the ground ready once per supervisord; raises `WrongUse` when it cannot start.

    Refused while another supervisord of the same data folder lives.
    """
    holder = _holder()
    with locked(records(), "gate"):
        present = recorded(holder)
        if present is not None and present == supervisor:
            return
        if present is not None:
            raise WrongUse(f"The pipeline is already running with this data (supervisord has pid {present.pid}).")
        check_all()
        end_leftovers()
        check_ports()
        if supervisor is not None:
            supervisor.record(holder)


def supervisor() -> Process | None:
    """The supervisord that started this process; None outside of one.

    Raises `WrongUse` when it has died since: then the parent is whoever adopts orphans (often pid 1), and recorded as
    the holder that one would keep every later supervisord from starting.
    """
    if not os.environ.get("SUPERVISOR_ENABLED"):
        return None
    parent = Process.of(os.getppid())
    if parent is None or b"supervisord" not in parent.command:
        raise WrongUse("The supervisord that started this has ended.")
    return parent
