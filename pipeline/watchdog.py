"""`python -m pipeline.watchdog`: kill processes that no longer answer; supervisord restarts them.

A process can be running but hung: stopped, deadlocked, out of memory. Each program answers on its `/health` port (503
is an answer too); the broker answers HTTP, the database answers SQL, possibly with an error. A process that has
answered and then does not answer at all for `--silence` seconds is killed, because a frozen process ignores SIGTERM.
One that has never answered may be waiting for broker and database: its `--grace` runs only while these are ready, and
doubles with each such kill, so that a slow start (a broker with a large journal) is not killed forever.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from xmlrpc.client import Error as RpcError
from xmlrpc.client import ServerProxy

import click
import psycopg
import requests
from psycopg.conninfo import make_conninfo
from supervisor.xmlrpc import SupervisorTransport

from pipeline.broker.admin import Admin
from pipeline.core.errors import PipelineError, Refused
from pipeline.core.health import HealthServer
from pipeline.core.log import get_logger
from pipeline.core.programs import PROGRAMS
from pipeline.core.runtime import Stop, program
from pipeline.core.settings import PRIVATE_DATABASE, PROJECT, DatabaseSettings, PulsarSettings, load
from pipeline.services import local, local_http
from pipeline.services.processes import Process

Probe = Callable[[], bool]
POLL_EVERY_S = 2.0
ANSWER_WITHIN_S = 5.0
# At most this counts as silence between two polls: if more time passed, the watchdog itself was suspended.
MOST_AT_ONCE_S = 2 * ANSWER_WITHIN_S
SERVICES = ("broker", "database")
# Multiple of `grace` for these: on a machine with a load of 25 a broker needed more than two minutes for its first
# start, and killing it only made it start over.
SERVICES_PATIENCE = 5
LONGEST_GRACE_S = 3600.0


def answers(ask: Callable[..., object], address: str) -> bool:
    """Whether there is any answer, whatever its status."""
    try:
        ask(address, ANSWER_WITHIN_S)
    except requests.RequestException:
        return False
    return True


def database_answers(url: str) -> bool:
    """Whether the server answers a new connection, with a row or with an error ("starting up")."""
    try:
        with psycopg.connect(url, connect_timeout=int(ANSWER_WITHIN_S), application_name="watchdog") as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        return error.sqlstate is not None or "FATAL:" in str(error)
    except psycopg.Error:
        return True
    return True


def services_serve(broker: PulsarSettings, database: DatabaseSettings) -> bool:
    """Whether broker and database accept connections with these settings."""
    try:
        with psycopg.connect(database.conninfo, connect_timeout=int(ANSWER_WITHIN_S), application_name="watchdog"):
            Admin(broker).clusters()
    except Refused:  # it is ready, but we may not run the check
        return True
    except (psycopg.Error, PipelineError):
        return False
    return True


def probes() -> dict[str, Probe]:
    """Return a probe for each of supervisord's processes."""
    asked: dict[str, Probe] = {
        one.name: partial(answers, local_http.ask, f"http://127.0.0.1:{one.port}/health")
        for one in PROGRAMS
        if one.name != "watchdog" and one.port
    }
    if (broker := local.broker()) is not None:
        asked["broker"] = partial(answers, broker.ask, "brokers/ready")
    if (database := local.database()) is not None:
        asked["database"] = partial(database_answers, make_conninfo(database.url("postgres"), **PRIVATE_DATABASE))
    return asked


class Asker(threading.Thread):
    """Runs one probe repeatedly, in its own thread, because a frozen server may block it forever."""

    def __init__(self, name: str, probe: Probe) -> None:
        super().__init__(name=f"ask-{name}", daemon=True)
        self._probe = probe
        # The newest answered probe: when it was sent, and when the answer came. Monotonic seconds.
        self._newest = (float("-inf"), float("-inf"))

    def run(self) -> None:
        while True:
            asked_s = time.monotonic()
            try:
                if self._probe():
                    self._newest = (asked_s, time.monotonic())
            except Exception as error:  # if the thread ended, the process would look silent
                get_logger().error("watchdog_probe", on=self.name, error=repr(error))
            time.sleep(max(0.1, POLL_EVERY_S - (time.monotonic() - asked_s)))

    def answered(self, asked_from_s: float, come_from_s: float) -> bool:
        """Whether an answer arrived since `come_from_s` to a probe sent since `asked_from_s`."""
        asked_s, come_s = self._newest
        return asked_s >= asked_from_s and come_s >= come_from_s


@dataclass
class Heard:
    """One process: first seen when, whether it ever answered, and how long it has been silent."""

    process: Process
    since_s: float
    answered: bool = False
    silent_s: float = 0.0


@dataclass
class Watch:
    """Tracks the answers of all processes. Times are monotonic seconds."""

    silence: float
    grace: float
    heard: dict[str, Heard] = field(default_factory=dict)
    killed: dict[str, int] = field(default_factory=dict)
    graces: dict[str, float] = field(default_factory=dict)  # increased ones, of processes killed during their grace
    looked_s: float | None = None

    @property
    def answering(self) -> list[str]:
        return sorted(name for name, one in self.heard.items() if one.answered and not one.silent_s)

    def look(
        self,
        processes: Mapping[str, Process],
        answered: Callable[[str, float, float], bool],
        serving: bool,
        now_s: float,
    ) -> list[str]:
        """Record a poll; returns the names of processes silent for too long.

        `answered`: `Asker.answered` of the named process. `serving`: whether broker and database are ready; until then
        a program need not have answered yet.
        """
        before_s, self.looked_s = self.looked_s if self.looked_s is not None else now_s, now_s
        passed_s = min(now_s - before_s, MOST_AT_ONCE_S)
        self.heard = {
            name: known if (known := self.heard.get(name)) and known.process == process else Heard(process, now_s)
            for name, process in processes.items()
        }
        silent = []
        for name, one in self.heard.items():
            if answered(name, one.since_s, before_s):
                one.answered, one.silent_s = True, 0.0
                self.graces.pop(name, None)
            elif one.since_s < now_s and (one.answered or serving or name in SERVICES):
                one.silent_s += passed_s
            if one.silent_s > (self.silence if one.answered else self._grace_of(name)):
                silent.append(name)
        return silent

    def _grace_of(self, name: str) -> float:
        return self.graces.get(name, self.grace * (SERVICES_PATIENCE if name in SERVICES else 1))

    def kill(self, name: str) -> None:
        """Kill a silent process. Its successor gets more time if it never answered."""
        one = self.heard.pop(name)
        get_logger().error(
            "watchdog_kill", process=name, pid=one.process.pid, silent_s=round(one.silent_s), answered=one.answered
        )
        if not one.answered:
            self.graces[name] = min(2 * self._grace_of(name), LONGEST_GRACE_S)
        one.process.send(signal.SIGKILL)
        self.killed[name] = self.killed.get(name, 0) + 1


def running(server: ServerProxy) -> dict[str, Process]:
    """Return the processes currently run by supervisord."""
    states: Any = server.supervisor.getAllProcessInfo()
    found = {}
    for state in states:
        if state["statename"] == "RUNNING" and (process := Process.of(int(state["pid"]))):
            found[str(state["name"])] = process
    return found


def watched(processes: Mapping[str, Process], askers: Iterable[str]) -> dict[str, Process]:
    """Return the processes that have a probe."""
    return {name: processes[name] for name in askers if name in processes}


@click.command()
@click.option(
    "--silence",
    default=30.0,
    show_default=True,
    envvar="WATCHDOG_SILENCE",
    show_envvar=True,
    help="Kill processes that have answered before and then not for this many seconds.",
)
@click.option(
    "--grace",
    default=120.0,
    show_default=True,
    envvar="WATCHDOG_GRACE",
    show_envvar=True,
    help="Seconds that a new process may be silent while broker and database are ready.",
)
@program("watchdog")
def main(silence: float, grace: float) -> None:
    """Kill processes that no longer answer; supervisord restarts them."""
    stop = Stop().listen()
    watch = Watch(silence, grace)
    last_look = time.monotonic()

    def report() -> tuple[bool, dict[str, Any]]:
        age = time.monotonic() - last_look
        return age < 60, {
            "last_look_s": round(age, 1),
            "killed": dict(watch.killed),
            "answering": watch.answering,
        }

    port = next(one.port for one in PROGRAMS if one.name == "watchdog")
    HealthServer("watchdog", port, report)
    socket = os.environ.get("SUPERVISOR_SERVER_URL", f"unix://{Path(PROJECT) / '.services' / 'sock'}")
    askers = {name: Asker(name, probe) for name, probe in probes().items()}
    services = Asker("services", partial(services_serve, load(PulsarSettings), load(DatabaseSettings)))
    for asker in (*askers.values(), services):
        asker.start()
    while not stop.wait(POLL_EVERY_S):
        try:
            server = ServerProxy("http://127.0.0.1", transport=SupervisorTransport(None, None, socket))
            processes = watched(running(server), askers)
        except (OSError, RpcError) as error:
            get_logger().warning("watchdog_blind", error=str(error))
            continue
        now = time.monotonic()
        serving = services.answered(0.0, now - MOST_AT_ONCE_S)
        for name in watch.look(processes, lambda name, *since: askers[name].answered(*since), serving, now):
            watch.kill(name)
        last_look = time.monotonic()


if __name__ == "__main__":
    main()
