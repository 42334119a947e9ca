"""The environment of every measurement: a durable private broker and database, fresh tables, pipeline processes."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, LiteralString

import numpy as np
import psycopg
from psycopg import sql

from pipeline.core.errors import WrongUse
from pipeline.core.programs import BY_NAME
from pipeline.core.settings import PROJECT, is_setting
from pipeline.database.migrate import migrate
from pipeline.services.broker import Broker
from pipeline.services.database import Database
from pipeline.services.instance import Instance, Service
from pipeline.services.processes import free_ports, free_range, working_in


@dataclass
class Ground:
    """The services of one benchmark run, with their default memory settings.

    Everything is durable: journal sync in the broker, fsync, synchronous_commit and full_page_writes.
    """

    instance: Instance
    log_folder: Path
    children: list[Child] = field(default_factory=list)

    def cpu_seconds(self, without: int = 0) -> dict[str, float]:
        """User and system time so far of broker, database (all its sessions but the one `without`) and programs."""
        database = self.instance.database.what
        assert isinstance(database, Database)
        broker = self.instance.broker.process
        assert broker is not None
        found = {"broker": cpu_of(broker.pid), "database": 0.0}
        for one in working_in(database.data):
            if one.pid != without:
                with suppress(OSError):  # a session that just ended: its head has its time
                    found["database"] += cpu_of(one.pid)
        for child in self.children:
            if child.program and child.process.poll() is None:
                name = child.program.replace("-", "_")
                found[name] = found.get(name, 0.0) + child.cpu_seconds()
        return found

    @contextmanager
    def tables(self) -> Iterator[Place]:
        """A fresh migrated database and an unused tenant."""
        name = f"bench_{secrets.token_hex(4)}"
        with psycopg.connect(self.instance.database_url(), autocommit=True) as conn:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            url = self.instance.database_url(name)
            with psycopg.connect(url, autocommit=True) as conn:
                migrate(conn)
                conn.execute("CHECKPOINT")  # so that every run has the same distance to the next one
            yield Place(self, url, f"bench-{secrets.token_hex(4)}")
        finally:
            for child in self.children:
                child.stop()
            self.children.clear()
            with psycopg.connect(self.instance.database_url(), autocommit=True) as conn:
                conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def cpu_per(unit: str, count: float, before: dict[str, float], after: dict[str, float]) -> Figures:
    """`broker_us_per_trade` ...: processor time between two `Ground.cpu_seconds`, microseconds for each of `count`."""
    return {f"{name}_us_per_{unit}": (after[name] - before[name]) / count * 1e6 for name in before}


def delays_of(part: str, delays_ms: Sequence[float], seconds: float) -> tuple[float, float, float, float, float]:
    """Return and print the rate of frames, and their delay: p50, p99, p99.9 and the slowest, in ms."""
    rate = len(delays_ms) / seconds
    p50, p99, p999, most = map(float, np.percentile(delays_ms, [50, 99, 99.9, 100]))
    say(f"{part}: {rate:,.0f} frames/s, p50 {p50:.1f}, p99 {p99:.1f}, p99.9 {p999:.1f} ms")
    return rate, p50, p99, p999, most


@dataclass
class Place:
    """The database and tenant of one measurement."""

    ground: Ground
    database_url: str
    tenant: str

    def environment(self, **more: str) -> dict[str, str]:
        """Return the settings of a process, without those of the caller's environment."""
        kept = {key: value for key, value in os.environ.items() if not is_setting(key)}
        instance = self.ground.instance
        return kept | {
            "PULSAR_URL": instance.pulsar_url,
            "PULSAR_ADMIN_URL": instance.pulsar_admin_url,
            "PULSAR_TOKEN_FILE": str(instance.pulsar_token),
            "PULSAR_TLS_CA_FILE": str(instance.pulsar_certificate),
            "PULSAR_TENANT": self.tenant,
            "DATABASE_URL": self.database_url,
            "METRICS_BASE_PORT": str(free_range(1 + max(program.offset for program in BY_NAME.values()))),
            "STATE_DIR": str(self.ground.log_folder / "state"),
            "ENV_FILE": os.devnull,
            "LOG_FORMAT": "json",
            "PYTHONUNBUFFERED": "1",
            **more,
        }

    def start(self, module: str, *args: str, program: str = "", **more: str) -> Child:
        """Start a process of the pipeline; `program` names it as `pipeline.core.programs` does, for its metrics."""
        environment = self.environment(**more)
        port = int(environment["METRICS_BASE_PORT"]) + BY_NAME[program].offset if program else 0
        log = self.ground.log_folder / f"{module}-{secrets.token_hex(3)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *args],
                env=environment,
                cwd=PROJECT,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.PIPE,
            )
        child = Child(process, port, log, program)
        self.ground.children.append(child)
        return child

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.database_url, autocommit=True)


@dataclass
class Child:
    """A started process."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    program: str = ""

    def metric(self, name: str) -> float:
        """Return a value of `/metrics`; `name` includes labels as Prometheus writes them. 0 if absent."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(name + " "):
                    return float(line.rpartition(" ")[2])
        return 0.0

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        return cpu_of(self.process.pid)

    def total_resident_mb(self) -> float:
        """All resident memory, libraries included: VmRSS."""
        return self._status("VmRSS")

    def peak_mb(self) -> float:
        """The most resident memory so far: VmHWM."""
        return self._status("VmHWM")

    def _status(self, name: str) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until `/metrics` responds."""
        until(lambda: self._answers(), seconds, f"{self.log.name} did not come up:\n", self.log)

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"a process ended with {self.process.returncode}:\n{tail(self.log)}")
        try:
            self.metric("")
        except (OSError, HTTPException):  # the second: the connection met itself, before there was a server
            return False
        return True

    def go(self) -> None:
        """Send the line that a process of the benchmark waits for."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def wait(self, seconds: float = 600, codes: tuple[int, ...] = (0,)) -> None:
        """Wait until it exits; an exit code other than `codes` is an error."""
        if self.process.wait(seconds) not in codes:
            raise RuntimeError(f"a process ended with {self.process.returncode}:\n{tail(self.log)}")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


Figures = dict[str, Any]


def cpu_of(pid: int) -> float:
    """User and system seconds of a process so far, those of its children that ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def first(conn: psycopg.Connection[Any], query: LiteralString, *values: object) -> tuple[Any, ...]:
    """Return the first row of a query that has one."""
    row = conn.execute(query, values).fetchone()
    assert row is not None
    return tuple(row)


def say(text: str) -> None:
    """Print progress on stderr; the result goes to stdout."""
    print(text, file=sys.stderr, flush=True)


def tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def until(condition: object, seconds: float, what: str, log: Path | None = None, pause: float = 0.02) -> None:
    """Wait for a condition. Raises `RuntimeError` on time-out."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(what + (tail(log) if log else ""))
        time.sleep(pause)


@contextmanager
def ground(folder: Path | None = None) -> Iterator[Ground]:
    """Start the services in a temporary folder (below `folder`), and stop them at the end."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=folder, ignore_cleanup_errors=True) as made:
        base = Path(made)
        ports = free_ports(3)
        (base / "ports.json").write_text(json.dumps(ports))
        broker = Service(Broker(base / "broker", ports[0], ports[1], "512m", True), die_with_parent=True)
        database = Service(Database(base / "database", ports[2], "1g", True), die_with_parent=True)
        for one in (broker, database):
            one.what.folder.mkdir(parents=True)
        instance = Instance(base, broker, database)
        logs = base / "logs"
        logs.mkdir()
        try:
            instance.start()
            yield Ground(instance, logs)
        except WrongUse:
            raise
        except Exception:
            kept = shutil.copytree(logs, Path(tempfile.mkdtemp(prefix="bench-logs-")), dirs_exist_ok=True)
            say(f"bench: the logs of this run are kept in {kept}")
            raise
        finally:
            broker.kill()  # its data is discarded
            database.kill()
            database.end_leftovers()
            shutil.rmtree(base, ignore_errors=True)
