"""A separate broker and database, for tests and development."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulsar

from pipeline.core.errors import Unavailable
from pipeline.core.log_file import set_aside_if_full
from pipeline.core.settings import ADMIN_ROLE
from pipeline.services.broker import Broker
from pipeline.services.database import Database
from pipeline.services.folders import closed
from pipeline.services.processes import Process, end, free_ports, recorded, wait_until, working_in

START_SECONDS = 120.0
STOP_SECONDS = 10.0


def _for_us_alone(file: str, flags: int) -> int:
    return os.open(file, flags, 0o600)


@dataclass
class Service:
    """One service: start, stop, and the faults needed by tests."""

    what: Broker | Database
    die_with_parent: bool = False
    _reaper: threading.Thread | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def pid_file(self) -> Path:
        return self.what.folder / "pid"

    @property
    def log_file(self) -> Path:
        return self.what.folder / "log"

    @property
    def process(self) -> Process | None:
        """The running process, even if another program started it."""
        return recorded(self.pid_file)

    def start(self, wait: bool = True) -> None:
        """Start it, unless it is running, and with `wait` wait until it is ready."""
        if self.process is None:
            self.end_leftovers()
            self.what.prepare()
            set_aside_if_full(self.log_file)
            with open(self.log_file, "ab", opener=_for_us_alone) as log:
                # Its own session: Ctrl-C in the terminal is for the tests, which then stop it in order.
                child = subprocess.Popen(
                    self._command(),
                    env=self.what.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    umask=0o077,
                )
            # No zombie may stay: for PostgreSQL the holder of its lock file is running as long as its pid exists.
            self._reaper = threading.Thread(target=child.wait, daemon=True)
            self._reaper.start()
            started = Process.of(child.pid)
            if started is not None:
                started.record(self.pid_file)
        if wait:
            self.wait_ready()

    def _command(self) -> Sequence[str]:
        command = self.what.command()
        if not self.die_with_parent or threading.current_thread() is not threading.main_thread():
            return command  # the kernel's "parent" is the thread: only the main one lives long enough
        parental = ["setpriv", "--pdeathsig", "KILL"]
        if command[0] == "unshare":  # a change of user would forget the request: ask behind it
            return [*command[:4], *parental, *command[4:]]
        return [*parental, *command]

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until it is ready. Raises `Unavailable` with the end of its log if it ended or took too long."""
        wait_until(lambda: self.what.ready() or self.process is None, seconds, 0.1)
        if self.process is None or not self.what.ready():
            log = self.log_file.read_text(errors="replace")[-3000:]
            raise Unavailable(f"The {self.what.name} in {self.what.folder} did not come up:\n{log}")

    def stop(self) -> None:
        """Stop in order; kill after ten seconds."""
        if (process := self.process) is not None:
            self._end(process, self.what.polite, STOP_SECONDS)
        self.end_leftovers()

    def end_leftovers(self) -> None:
        """End processes left in our folder after the main process was killed."""
        for folder in self.what.leftovers():
            end(working_in(folder), signal.SIGTERM, 5)

    def kill(self) -> None:
        """`kill -9`; returns when the process is gone."""
        if (process := self.process) is not None:
            self._end(process, signal.SIGKILL, 10)

    def _end(self, process: Process, polite: signal.Signals, seconds: float) -> None:
        end([process], polite, seconds)
        if self._reaper is not None:
            self._reaper.join(seconds)

    def freeze(self) -> None:
        """SIGSTOP, for the database its backends too."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal_all(signal.SIGCONT)

    def restart(self) -> None:
        """Stop in order and start again, on the same ports and data."""
        self.stop()
        self.start()

    def _signal_all(self, number: signal.Signals) -> None:
        processes = [process for folder in self.what.leftovers() for process in working_in(folder)]
        for process in {*processes, *filter(None, [self.process])}:
            process.send(number)


@dataclass
class Instance:
    """A broker and a database in one folder. Use `Instance.at(folder)`."""

    folder: Path
    broker: Service
    database: Service

    @classmethod
    def at(
        cls, folder: Path, *, durable: bool = False, die_with_parent: bool = False, memory: str = "512m"
    ) -> Instance:
        """Return the instance of this folder, running or not; its ports are chosen once and stored there."""
        closed(folder)
        chosen = folder / "ports.json"
        if not chosen.exists():
            port, admin_port, database_port = free_ports(3)
            chosen.write_text(json.dumps({"pulsar": port, "admin": admin_port, "database": database_port}))
        ports = json.loads(chosen.read_text())
        broker = Broker(folder / "broker", ports["pulsar"], ports["admin"], memory, durable)
        database = Database(folder / "database", ports["database"], memory, durable)
        for one in (broker, database):
            closed(one.folder)
        return cls(folder, Service(broker, die_with_parent), Service(database, die_with_parent))

    def start(self) -> None:
        """Start both in parallel and wait for both."""
        self.broker.start(wait=False)
        self.database.start(wait=False)
        self.database.wait_ready()
        self.broker.wait_ready()

    def stop(self) -> None:
        stopper = threading.Thread(target=self.broker.stop)
        stopper.start()
        self.database.stop()
        stopper.join()

    @property
    def pulsar_url(self) -> str:
        assert isinstance(self.broker.what, Broker)
        return self.broker.what.url

    @property
    def pulsar_admin_url(self) -> str:
        assert isinstance(self.broker.what, Broker)
        return self.broker.what.admin_url

    @property
    def pulsar_token(self) -> Path:
        """The broker's token file, for PULSAR_TOKEN_FILE."""
        assert isinstance(self.broker.what, Broker)
        return self.broker.what.token_file

    @property
    def pulsar_certificate(self) -> Path:
        """The broker's certificate, for PULSAR_TLS_CA_FILE."""
        assert isinstance(self.broker.what, Broker)
        return self.broker.what.certificate_file

    def pulsar_client(self, **options: Any) -> pulsar.Client:
        """Return a plain client of this broker, logging errors only."""
        return pulsar.Client(
            self.pulsar_url,
            authentication=pulsar.AuthenticationToken(self.pulsar_token.read_text()),
            tls_trust_certs_file_path=str(self.pulsar_certificate),
            tls_validate_hostname=True,
            logger=pulsar.ConsoleLogger(pulsar.LoggerLevel.Error),
            **options,
        )

    def database_url(self, database: str = "postgres", *, user: str = ADMIN_ROLE) -> str:
        """Return a URL including the password; by default as superuser, for the maintenance database."""
        assert isinstance(self.database.what, Database)
        return self.database.what.url(database, user=user)

    @property
    def running(self) -> bool:
        return self.broker.process is not None and self.database.process is not None
