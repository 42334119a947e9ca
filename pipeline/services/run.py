"""`python -m pipeline.services.run NAME`: become the program or service NAME. Started by supervisord.

Exits with 0 if it is switched off or external, with 2 if a setting is wrong; otherwise replaces this process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import NoReturn

from pipeline.core.errors import WrongUse
from pipeline.core.settings import PROJECT, names_of
from pipeline.services import demo, layout, local, preflight
from pipeline.services.accounts import closed
from pipeline.services.processes import Process, end, recorded, working_in

# Two starts closer than this mean a crash: the next start waits, so that a crash loop stays slow.
PACE_SECONDS = 5.0


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    name = sys.argv[1]
    supervisor = None
    os.umask(0o077)  # logs, pid files and data are readable by us only
    try:
        supervisor = preflight.supervisor()
        command, environment = _what(name)
        if not command:
            return 0
        preflight.pass_gate(supervisor)
        _alone(name)
        if name in ("broker", "database"):
            service = local.broker() if name == "broker" else local.database()
            assert service is not None
            # Also folders that an earlier version left open.
            for folder in (layout.INSTALLED, local.data_folder(), service.folder):
                closed(folder)
            service.prepare()
    except WrongUse as error:
        say(f"{name}: {error}")
        if supervisor is not None and "taken by" in str(error):
            supervisor.send(signal.SIGTERM)
        return 2
    _become(name, command, environment)


def _what(name: str) -> tuple[list[str], dict[str, str]]:
    """Return command and environment of NAME; no command if it should not run."""
    if name in ("broker", "database"):
        service = local.broker() if name == "broker" else local.database()
        if service is None:
            setting = "PULSAR_URL" if name == "broker" else "DATABASE_URL"
            say(f"{name}: {setting} names another one, the private one stays off.")
            return [], {}
        return service.command(), service.environment()
    program = demo.programs()[name]
    if not program.enabled:
        switch = next((n for n, f in names_of(program.switch).items() if f == "enabled"), "") if program.switch else ""
        say(f"{name}: switched off ({switch}).")
        return [], {}
    if not demo.exists(program):
        say(f"{name}: not part of this version.")
        return [], {}
    return [sys.executable, "-m", program.module, *program.args], {**os.environ, "PYTHONUNBUFFERED": "1"}


def _alone(name: str) -> None:
    """End an earlier process of this name, whose supervisord was killed, and delay rapid restarts."""
    record = preflight.record_of(name)
    earlier = recorded(record)
    if earlier is not None and earlier.pid != os.getpid():
        end([earlier], signal.SIGTERM, 5)
    if name == "database" and (service := local.database()) is not None:
        for folder in service.leftovers():
            end(working_in(folder), signal.SIGTERM, 5)
    begun = preflight.begun_at()
    if record.exists() and record.stat().st_mtime > begun:
        since = time.time() - record.stat().st_mtime
        if 0 <= since < PACE_SECONDS:
            say(f"{name}: started {since:.0f} s ago, waiting before the next start.")
            time.sleep(PACE_SECONDS - since)


def _become(name: str, command: list[str], environment: dict[str, str]) -> NoReturn:
    """Replace this process. The kernel ends it when supervisord dies, for any reason."""
    me = Process.of(os.getpid())
    assert me is not None
    me.record(preflight.record_of(name))
    polite = "INT" if name == "database" else "TERM"
    guard = ["setpriv", "--pdeathsig", polite]
    # A change of user clears that request, so it is made after `unshare`.
    full = [*command[:4], *guard, *command[4:]] if command[0] == "unshare" else [*guard, *command]
    os.chdir(PROJECT)
    os.execvpe(full[0], full, environment)


if __name__ == "__main__":
    sys.exit(main())
