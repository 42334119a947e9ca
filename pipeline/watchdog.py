"""`python -m pipeline.watchdog`: what no longer answers is killed, and supervisord starts it anew.

A process can be alive and dead: stopped, deadlocked, out of memory. Each program answers on its `/health` port,
whatever it has to say (503 is an answer too); the broker answers HTTP, the database answers SQL, be it with an error.
What gave no answer at all for `--silence` seconds is killed: a frozen process hears no polite signal.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NoAnswerInTime
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from xmlrpc.client import Error as RpcError
from xmlrpc.client import ServerProxy

import click
import psycopg
import requests
from supervisor.xmlrpc import SupervisorTransport

from pipeline.health import HealthServer
from pipeline.log import get_logger
from pipeline.process import Stop, program
from pipeline.programs import PROGRAMS
from pipeline.services import private
from pipeline.services.processes import Process
from pipeline.settings import PROJECT

Probe = Callable[[], bool]
LOOK_EVERY_S = 2.0
ANSWER_WITHIN_S = 5.0


def http_answers(url: str) -> bool:
    """Whether anything at all comes back, whatever its status."""
    try:
        requests.get(url, timeout=ANSWER_WITHIN_S)
    except requests.RequestException:
        return False
    return True


def database_answers(url: str) -> bool:
    """Whether the server answers a new connection: with a row, or with an error of its own ("starting up")."""
    try:
        with psycopg.connect(url, connect_timeout=int(ANSWER_WITHIN_S), application_name="watchdog") as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        return error.sqlstate is not None or "FATAL:" in str(error)
    except psycopg.Error:
        return True
    return True


def probes() -> dict[str, Probe]:
    """How to ask each process that supervisord knows."""
    asked: dict[str, Probe] = {
        one.name: partial(http_answers, f"http://127.0.0.1:{one.port}/health")
        for one in PROGRAMS
        if one.name != "watchdog" and one.port
    }
    if (broker := private.broker()) is not None:
        asked["broker"] = partial(http_answers, f"{broker.admin_url}/status.html")
    if (database := private.database()) is not None:
        asked["database"] = partial(database_answers, database.url("postgres"))
    return asked


@dataclass
class Watch:
    """What was heard from each process, and when. Times are monotonic seconds."""

    silence: float
    grace: float
    heard: dict[str, tuple[Process, float]] = field(default_factory=dict)
    killed: dict[str, int] = field(default_factory=dict)
    answering: set[str] = field(default_factory=set)

    def silent(self, process: Process, name: str, answered: bool, now: float) -> bool:
        """Note one look; whether this process was silent too long. A new process has `grace` seconds to come up."""
        known = self.heard.get(name)
        if known is None or known[0] != process:
            # first seen now: as if heard in the future, so that it is given `grace` rather than `silence`
            self.heard[name] = (process, now if answered else now + self.grace - self.silence)
        elif answered:
            self.heard[name] = (process, now)
        (self.answering.add if answered else self.answering.discard)(name)
        return now - self.heard[name][1] > self.silence


def running(server: ServerProxy) -> dict[str, Process]:
    """The processes that supervisord runs now."""
    states: Any = server.supervisor.getAllProcessInfo()
    found = {}
    for state in states:
        if state["statename"] == "RUNNING" and (process := Process.of(int(state["pid"]))):
            found[str(state["name"])] = process
    return found


def look(watch: Watch, processes: Mapping[str, Process], asked: Mapping[str, Probe], pool: ThreadPoolExecutor) -> None:
    """Ask every running process once, all at the same time, and kill those that were silent too long."""
    waiting = {name: pool.submit(asked[name]) for name in processes if name in asked}
    deadline = time.monotonic() + 2 * ANSWER_WITHIN_S
    for name, answer in waiting.items():
        try:
            answered = answer.result(max(0.0, deadline - time.monotonic()))
        except NoAnswerInTime:
            answered = False
        process = processes[name]
        if watch.silent(process, name, answered, time.monotonic()):
            get_logger().error("watchdog_kill", process=name, pid=process.pid, silent_s=watch.silence)
            process.send(signal.SIGKILL)
            watch.killed[name] = watch.killed.get(name, 0) + 1


@click.command()
@click.option(
    "--silence",
    default=30.0,
    show_default=True,
    envvar="WATCHDOG_SILENCE",
    show_envvar=True,
    help="Kill what did not answer for so many seconds.",
)
@click.option(
    "--grace",
    default=120.0,
    show_default=True,
    envvar="WATCHDOG_GRACE",
    show_envvar=True,
    help="A new process may be silent for so many seconds.",
)
@program("watchdog")
def main(silence: float, grace: float) -> None:
    """Kill what no longer answers; supervisord starts it anew."""
    stop = Stop().listen()
    watch = Watch(silence, grace)
    last_look = time.monotonic()

    def report() -> tuple[bool, dict[str, Any]]:
        age = time.monotonic() - last_look
        return age < 60, {
            "last_look_s": round(age, 1),
            "killed": dict(watch.killed),
            "answering": sorted(watch.answering),
        }

    port = next(one.port for one in PROGRAMS if one.name == "watchdog")
    HealthServer("watchdog", port, report)
    socket = os.environ.get("SUPERVISOR_SERVER_URL", f"unix://{Path(PROJECT) / '.services' / 'sock'}")
    asked = probes()
    with ThreadPoolExecutor(len(asked) * 2, thread_name_prefix="probe") as pool:
        while not stop.wait(LOOK_EVERY_S):
            try:
                server = ServerProxy("http://127.0.0.1", transport=SupervisorTransport(None, None, socket))
                processes = running(server)
            except (OSError, RpcError) as error:
                get_logger().warning("watchdog_blind", error=str(error))
                continue
            look(watch, processes, asked, pool)
            last_look = time.monotonic()
        pool.shutdown(wait=False, cancel_futures=True)


if __name__ == "__main__":
    main()
