"""The example unit: what it starts, and that it can write where systemd lets it write."""

from __future__ import annotations

import configparser
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

from pipeline.core.programs import PROGRAMS
from pipeline.core.settings import PROJECT, is_setting
from pipeline.services import conf
from pipeline.services.processes import free_ports, free_range

# With this configuration in place of the project's: three programs that are off, and say so.
STARTS = (
    "import sys; from pathlib import Path; from pipeline import start; from pipeline.services import conf\n"
    "written = Path(sys.argv.pop()); start.supervisord = lambda _: conf.supervisord(written); start.main()"
)


def unit() -> configparser.SectionProxy:
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(PROJECT / "deploy" / "systemd" / "market-data.service")
    return parser["Service"]


def off(folder: Path) -> dict[str, str]:
    """The environment of a pipeline in which nothing runs."""
    dashboard, pulsar, admin, database = free_ports(4)
    return {key: value for key, value in os.environ.items() if not is_setting(key)} | {
        "ENV_FILE": os.devnull,
        "SERVICES_DATA": str(folder / "data"),
        "METRICS_BASE_PORT": str(free_range(30)),
        "DASHBOARD_PORT": str(dashboard),
        "PULSAR_PORT": str(pulsar),
        "PULSAR_ADMIN_PORT": str(admin),
        "DATABASE_PORT": str(database),
        "PULSAR_URL": "pulsar://127.0.0.1:1",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x",
        "KRAKEN_ENABLED": "false",
    }


def test_the_unit_starts_a_module_that_is_there() -> None:
    """Prevents a unit that names what is no more."""
    python, *arguments = shlex.split(unit()["ExecStart"])
    assert Path(python).relative_to(unit()["WorkingDirectory"]) == Path(".venv/bin/python")
    assert arguments == ["-m", "pipeline.start"]


def test_a_wrong_setting_ends_the_unit_for_good(tmp_path: Path) -> None:
    """Prevents a service that is "active" while all its programs have ended with exit code 2."""
    _, *arguments = shlex.split(unit()["ExecStart"])
    env = off(tmp_path) | {"LOG_LEVEL": "loud"}
    done = subprocess.run([sys.executable, *arguments], cwd=PROJECT, env=env, capture_output=True, text=True)
    assert done.returncode == int(unit()["RestartPreventExitStatus"])
    assert "LOG_LEVEL" in done.stderr


def test_programs_start_and_write_where_stdout_is_a_socket(tmp_path: Path) -> None:
    """Prevents a unit under which nothing runs: systemd gives a socket, which supervisord cannot open for its programs
    ("unknown error making dispatchers: ENXIO")."""
    written = conf.write(tmp_path, without=[one.name for one in PROGRAMS if one.name != "kraken"])
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-c", STARTS, str(written)]
    with theirs, ours, subprocess.Popen(command, cwd=PROJECT, env=off(tmp_path), stdout=theirs, stderr=theirs) as child:
        theirs.close()
        said = ""
        while not all(f"{name}: " in said for name in ("broker", "database", "kraken")):
            data = ours.recv(65536)
            assert data, said
            assert "error making dispatchers" not in said
            said += data.decode()
        child.terminate()
        while data := ours.recv(65536):
            said += data.decode()
        assert child.wait() == 0, said
