"""Preflight: end leftover processes of an earlier supervisord, and check that all required ports are free.

supervisord starts all programs at once, without an order, so the first of them does this for all, and the others wait
for its result.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import WrongUse, naming
from pipeline.core.settings import DashboardSettings, check_all, load
from pipeline.services import demo, local
from pipeline.services.cache import locked
from pipeline.services.folders import closed, own
from pipeline.services.place import check_place
from pipeline.services.processes import Process, end, port_is_free, recorded, wait_until, working_in


def records() -> Path:
    """Return the folder with one file per program: pid and start time of its process."""
    return local.data_folder() / "run"


def record_of(name: str) -> Path:
    return records() / f"{name}.pid"


def _holder() -> Path:
    return records() / "supervisord"


def is_ours(pid: object) -> bool:
    """Whether this is the pid of the supervisord that runs with our data."""
    present = recorded(_holder())
    return present is not None and present.pid == pid


def begun_at() -> float:
    """Return when the current supervisord started its first program, in Unix seconds; 0 if none."""
    try:
        return _holder().stat().st_mtime
    except OSError:
        return 0.0


def _wanted() -> Iterator[tuple[int, str]]:
    """Yield every port about to be used, with the setting that changes it."""
    for service in (local.broker(), local.database()):
        yield from service.ports.items() if service else ()
    for program in demo.programs().values():
        if program.enabled and program.port and demo.exists(program):
            own = program.own_port is not None
            yield program.port, f"{program.name.upper()}_METRICS_PORT" if own else "METRICS_BASE_PORT"
    if demo.active():
        yield demo.simulator_port(), "SIMULATOR_PORT"
    if (port := load(DashboardSettings).port) and demo.exists(demo.programs()["dashboard"]):
        yield port, "DASHBOARD_PORT"


def needed_ports() -> dict[int, str]:
    """Return the ports about to be used, each with the setting that changes it."""
    return dict(_wanted())


def end_leftovers() -> None:
    """End processes recorded by an earlier supervisord of this checkout that are still running."""
    left = {file.stem: process for file in records().glob("*.pid") if (process := recorded(file))}
    database = left.pop("database", None)
    end(left.values(), signal.SIGTERM, 5)
    end([database] if database else [], signal.SIGINT, 10)
    if (service := local.database()) is not None:
        for folder in service.leftovers():
            end(working_in(folder), signal.SIGTERM, 5)


def check_ports() -> None:
    """Raise `WrongUse` with one sentence per port that is taken, or that two settings use."""
    ports: dict[int, str] = {}
    wrong = []
    for port, name in _wanted():
        if ports.setdefault(port, name) != name:
            wrong.append(f"Port {port} is taken by both {ports[port]} and {name}: set one of them to another.")
    above = f" (the demo adds {demo.SHIFT:,} to it)" if demo.active() else ""
    for port, name in ports.items():
        if not wait_until(lambda port=port: port_is_free(port), 1):  # type: ignore[misc]
            more = "" if name == "SIMULATOR_PORT" else above
            wrong.append(f"Port {port} is taken by another program: end that, or set {name} to a free one{more}.")
    if wrong:
        raise WrongUse("\n".join(wrong))


def pass_gate(supervisor: Process | None) -> None:
    """Run the preflight once per supervisord. Raises `WrongUse` if it cannot start.

    Refused while another supervisord of the same data folder is running.
    """
    holder = _holder()
    with naming("SERVICES_DATA"):  # before anything is written to it
        (own if demo.active() else closed)(local.data_folder())
    with locked(records(), "gate"):
        present = recorded(holder)
        if present is not None and present == supervisor:
            return
        if present is not None:
            raise WrongUse(f"The pipeline is already running with this data (supervisord has pid {present.pid}).")
        check_all()
        check_place()
        end_leftovers()
        check_ports()
        if (broker := local.broker()) is not None:
            broker.make_credentials()
        if supervisor is not None:
            supervisor.record(holder)


def supervisor() -> Process | None:
    """Return the supervisord that started this process; None if there is none.

    Raises `WrongUse` if it has died: the parent then is the process that adopts orphans (often pid 1), and recording
    that one would block every later supervisord.
    """
    if not os.environ.get("SUPERVISOR_ENABLED"):
        return None
    parent = Process.of(os.getppid())
    if parent is None or b"supervisord" not in parent.command:
        raise WrongUse("The supervisord that started this program has exited.")
    return parent
