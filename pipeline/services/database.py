"""The private PostgreSQL with TimescaleDB."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psycopg

from pipeline.errors import WrongUse
from pipeline.services import layout

NAME = "market_data"


@cache
def unprivileged() -> tuple[str, ...]:
    """What to put before a PostgreSQL command: it refuses to run as root.

    In a user namespace root's own files look like an ordinary user's, so no account and no permissions are needed.
    Where namespaces are forbidden the account `nobody` must do; it has to be able to reach the folder.
    """
    if os.geteuid() != 0:
        return ()
    namespace = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    if subprocess.run([*namespace, "true"], capture_output=True).returncode == 0:
        return namespace
    return ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def megabytes(memory: str) -> int:
    """`512m` or `1g` in megabytes."""
    found = re.fullmatch(r"(\d+)([mg])", memory.lower())
    if not found:
        raise WrongUse(f"DATABASE_MEMORY: {memory!r} is no size; write 512m or 1g.")
    return int(found[1]) * (1024 if found[2] == "g" else 1)


@dataclass(frozen=True)
class Database:
    """How the database of one data folder is started.

    `memory` is what it may count on, a quarter of it for shared buffers. Without `durable` (tests) nothing waits for
    the disk: the death of a process is survived, a power cut is not.
    """

    folder: Path
    port: int
    memory: str = "1g"
    durable: bool = True

    name = "database"
    polite = signal.SIGINT  # fast shutdown: open sessions do not hold it up

    @property
    def ports(self) -> dict[int, str]:
        """What must be free, and the setting that changes it."""
        return {self.port: "DATABASE_PORT"}

    @property
    def data(self) -> Path:
        return self.folder / "postgresql"

    def url(self, database: str = NAME) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def _settings(self) -> dict[str, str]:
        memory = megabytes(self.memory)
        durable = "on" if self.durable else "off"
        return {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "shared_preload_libraries": "timescaledb",
            "timescaledb.telemetry_level": "off",
            # The Apache edition has no background jobs; its schedulers would only keep every database open.
            "timescaledb.max_background_workers": "0",
            "jit": "off",  # statements are short: compiling costs more than it gives
            "max_locks_per_transaction": "1024",  # a query over years touches that many chunks
            "max_connections": "100",
            "shared_buffers": f"{max(memory // 4, 32)}MB",
            "effective_cache_size": f"{max(memory * 3 // 4, 64)}MB",
            "work_mem": f"{max(memory // 32, 8)}MB",
            "maintenance_work_mem": f"{max(memory // 16, 32)}MB",
            "max_worker_processes": "8",
            "max_parallel_workers_per_gather": "1",
            "random_page_cost": "1.1",
            "wal_level": "minimal",
            "max_wal_senders": "0",
            "wal_compression": "lz4",
            "wal_buffers": "16MB",
            "min_wal_size": "256MB",
            "max_wal_size": "2GB",
            "checkpoint_timeout": "10min",
            "fsync": durable,
            "synchronous_commit": "on",  # off would lose commits by the mere death of the process
            "full_page_writes": durable,
            # A frozen client must not hold locks for ever; connections of the writers set shorter ones.
            "idle_in_transaction_session_timeout": "60s",
            "tcp_keepalives_idle": "30",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": "30s",
            "client_connection_check_interval": "5s",
            "log_destination": "stderr",
            "logging_collector": "off",
            "log_min_messages": "warning",
            "log_checkpoints": "off",
            "log_line_prefix": "%m [%p] %d ",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }

    def prepare(self) -> None:
        """Initialise the folder once (whole or not at all) and write the configuration."""
        if not layout.postgres_program("postgres").exists():
            raise WrongUse(
                "The database is not installed: run scripts/setup, or set DATABASE_URL to one that you have."
            )
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        lines = ["# written at every start; put your own settings into the database with ALTER SYSTEM"]
        lines += [f"{key} = '{value}'" for key, value in self._settings().items()]
        (self.data / "pipeline.conf").write_text("\n".join(lines) + "\n")

    def _initialise(self) -> None:
        fresh = self.folder / "postgresql.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        fresh.chmod(0o700)
        if unprivileged()[:1] == ("setpriv",):
            os.chown(fresh, 65534, 65534)
        self._run("initdb", "-D", str(fresh), "-U", "postgres", "--auth=trust", "--locale-provider=builtin",
                  "--locale=C.UTF-8", "-E", "UTF8", "--no-sync", "--no-instructions")  # fmt: skip
        with (fresh / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude 'pipeline.conf'\n")
        (fresh / "pipeline.conf").write_text("")
        # Single-user mode: the database exists before the first connection, whoever comes first.
        self._run("postgres", "--single", "-D", str(fresh), "postgres", text=f"CREATE DATABASE {NAME}\n")
        os.sync()
        fresh.rename(self.data)

    def _run(self, program: str, *args: str, text: str | None = None) -> None:
        done = subprocess.run(
            [*unprivileged(), str(layout.postgres_program(program)), *args],
            input=text, capture_output=True, text=True, env=self.environment(),
        )  # fmt: skip
        if done.returncode or "ERROR" in done.stderr or "FATAL" in done.stderr:
            raise WrongUse(f"{program} failed in {self.folder}: {(done.stderr or done.stdout).strip()[-600:]}")

    def command(self) -> list[str]:
        return [*unprivileged(), str(layout.postgres_program("postgres")), "-D", str(self.data)]

    def environment(self) -> dict[str, str]:
        """The caller's environment without what would steer PostgreSQL's own programs."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_", "LANG"))}
        # initdb and the server look for their libraries' data where the packages were built for
        return kept | {"LC_ALL": "C", "TZDIR": "/usr/share/zoneinfo"}

    def ready(self) -> bool:
        """Whether the database answers a query."""
        try:
            with psycopg.connect(self.url("postgres"), connect_timeout=2) as connection:
                connection.execute("SELECT 1")
            return True
        except psycopg.Error:
            return False

    def leftovers(self) -> list[Path]:
        """Folders that only this service's processes work in."""
        return [self.data]
