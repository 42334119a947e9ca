"""`python -m pipeline.services.run NAME`: become the program or service NAME. Started by supervisord.

Exits with 0 if it is switched off or external, with 2 if a setting is wrong. A program of ours then runs in this
process, a service replaces it.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
import time

from pipeline.core.errors import WrongUse
from pipeline.core.programs import Program
from pipeline.core.settings import PROJECT, names_of
from pipeline.services import demo, layout, local, preflight
from pipeline.services.broker import Broker
from pipeline.services.database import Database
from pipeline.services.folders import closed, own
from pipeline.services.processes import Process, end, recorded, working_in

# Two starts closer than this mean a crash: the next start waits, so that a crash loop stays slow.
PACE_SECONDS = 5.0
PR_SET_PDEATHSIG = 1  # of prctl(2)


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    name = sys.argv[1]
    supervisor = None
    os.umask(0o077)  # logs, pid files and data are readable by us only
    try:
        supervisor = preflight.supervisor()
        what = _service(name) if name in ("broker", "database") else _program(name)
        if what is None:
            return 0
        preflight.pass_gate(supervisor)
        _alone(name)
        if not isinstance(what, Program):
            closed(layout.INSTALLED)  # an earlier version left it open
            own(what.folder)
            what.prepare()
    except WrongUse as error:
        say(f"{name}: {error}")
        if supervisor is not None and "taken by" in str(error):
            supervisor.send(signal.SIGTERM)
        return 2
    me = Process.of(os.getpid())
    assert me is not None
    me.record(preflight.record_of(name))
    os.chdir(PROJECT)
    if isinstance(what, Program):
        _run(what)
    else:
        _become(what)
    return 0


def _service(name: str) -> Broker | Database | None:
    """Return the private service NAME; None if another one is used instead."""
    service = local.broker() if name == "broker" else local.database()
    if service is None:
        setting = "PULSAR_URL" if name == "broker" else "DATABASE_URL"
        say(f"{name}: {setting} names another one, the private one stays off.")
    return service


def _program(name: str) -> Program | None:
    """Return the program NAME; None if it should not run."""
    program = demo.programs()[name]
    if not program.enabled:
        switch = next((n for n, f in names_of(program.switch).items() if f == "enabled"), "") if program.switch else ""
        say(f"{name}: switched off ({switch}).")
        return None
    if not demo.exists(program):
        say(f"{name}: not part of this version.")
        return None
    return program


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


def _run(program: Program) -> None:
    """Run a program in this process; the kernel ends it when supervisord dies, for any reason.

    A second Python would read the settings and libraries once more, which is 0.35 s of processor time for each of the
    17 programs.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    sys.argv[1:] = program.args
    runpy.run_module(program.module, run_name="__main__", alter_sys=True)


def _become(service: Broker | Database) -> None:
    """Replace this process by a service, under the same condition."""
    command = service.command()
    guard = ["setpriv", "--pdeathsig", service.polite.name.removeprefix("SIG")]
    # A change of user clears that request, so it is made after `unshare`.
    full = [*command[:4], *guard, *command[4:]] if command[0] == "unshare" else [*guard, *command]
    speak_plainly()
    os.execvpe(full[0], full, service.environment())


def speak_plainly() -> None:
    """Put a `?` for whatever this process writes from now on that is no printable ASCII.

    The services log names that any account may give when it knocks at their ports, control codes of terminals included.
    The filter is a grandchild, which the service does not take for one of its own; it ends with the last that writes.
    """
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        if os.fork() == 0:
            os.dup2(reading, 0)
            os.closerange(3, 64)
            os.execvpe("sed", ["sed", "-u", r"s/[^[:print:]\t]/?/g"], os.environ | {"LC_ALL": "C"})
        os._exit(0)
    os.waitpid(child, 0)
    for standard in (1, 2):
        os.dup2(writing, standard)
    os.close(reading)
    os.close(writing)


if __name__ == "__main__":
    sys.exit(main())
