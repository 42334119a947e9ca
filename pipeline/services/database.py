"""The private PostgreSQL with TimescaleDB."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg.conninfo import make_conninfo

from pipeline.core.errors import WrongUse
from pipeline.core.libpq import forget_environment
from pipeline.core.settings import ADMIN_ROLE, OWNER_ROLE, PRIVATE_DATABASE, PROGRAM_ROLE
from pipeline.services import credentials, layout
from pipeline.services.accounts import stand_in, unprivileged
from pipeline.services.folders import closed

NAME = "market_data"
HBA = """\
# Written at every start. With a password over the loopback, and in no other way.
host all all 127.0.0.1/32 scram-sha-256
"""
# For single-user mode: one statement per line. Roles are server-wide; tables are created by the migrations.
ROLES = """\
DO $$ DECLARE one text; BEGIN \
FOREACH one IN ARRAY ARRAY['{owner}', '{program}', 'market_data_writer', 'market_data_reader'] LOOP \
IF to_regrole(one) IS NULL THEN EXECUTE format('CREATE ROLE %I', one); END IF; END LOOP; END $$
ALTER ROLE {admin} LOGIN SUPERUSER PASSWORD '{verifiers[postgres]}'
ALTER ROLE {owner} LOGIN NOSUPERUSER PASSWORD '{verifiers[market_data_owner]}'
ALTER ROLE {program} LOGIN NOSUPERUSER PASSWORD '{verifiers[market_data]}'
GRANT market_data_writer TO {program}
ALTER DATABASE {name} OWNER TO {owner}
REVOKE ALL ON DATABASE {name}, postgres, template1 FROM PUBLIC
GRANT CONNECT ON DATABASE {name} TO market_data_writer, market_data_reader
GRANT TEMPORARY ON DATABASE {name} TO market_data_writer
"""


def megabytes(memory: str) -> int:
    """`512m` or `1g` in megabytes."""
    found = re.fullmatch(r"(\d+)([mg])", memory.lower())
    if not found:
        raise WrongUse(f"DATABASE_MEMORY: {memory!r} is not a valid size; write 512m or 1g.")
    return int(found[1]) * (1024 if found[2] == "g" else 1)


@dataclass(frozen=True)
class Database:
    """Configuration and start of the database of one data folder.

    `memory`: available memory, a quarter of it for shared buffers. Without `durable` (tests) nothing waits for the
    disk: it survives the death of a process, but not a power cut.
    """

    folder: Path
    port: int
    memory: str = "1g"
    durable: bool = True

    name = "database"
    polite = signal.SIGINT  # fast shutdown: open sessions do not hold it up

    @property
    def ports(self) -> dict[int, str]:
        """Return the required ports, each with the setting that changes it."""
        return {self.port: "DATABASE_PORT"}

    @property
    def data(self) -> Path:
        return self.folder / "postgresql"

    @property
    def passwords_file(self) -> Path:
        """The passfile, in libpq's format: for `passfile=` of a connection and PGPASSFILE of the tools."""
        return self.folder / "passwords"

    def url(self, database: str = NAME, *, user: str = ADMIN_ROLE, port: int = 0) -> str:
        """Return a URL including the password: do not print it. `port`: a proxy's instead of our own."""
        forget_environment()
        password = credentials.passwords(self.passwords_file)[user]
        return f"postgresql://{user}:{password}@127.0.0.1:{port or self.port}/{database}"

    def shown_url(self, database: str = NAME, *, user: str = ADMIN_ROLE) -> str:
        """Return a URL with the passfile instead of the password."""
        return (
            f"postgresql://{user}@127.0.0.1:{self.port}/{database}?passfile={quote(str(self.passwords_file), safe='/')}"
        )

    def _settings(self) -> dict[str, str]:
        memory = megabytes(self.memory)
        durable = "on" if self.durable else "off"
        return {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "shared_preload_libraries": "timescaledb",
            "timescaledb.telemetry_level": "off",
            # The Apache edition has no background jobs; its schedulers would only keep databases open.
            "timescaledb.max_background_workers": "0",
            "jit": "off",  # statements are short: compiling costs more than it gains
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
            "synchronous_commit": "on",  # off would lose commits when the process dies
            "full_page_writes": durable,
            # A frozen client must not hold locks forever; the writers' connections set shorter timeouts.
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
        """Initialise the folder once (atomically), write the configuration, and enforce passwords, also where an
        earlier version allowed access without."""
        if not layout.postgres_program("postgres").exists():
            raise WrongUse("The database is not installed: run scripts/setup, or set DATABASE_URL to an existing one.")
        closed(self.folder)
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._give(self.data)
        self._configure(self.data)
        self._set_passwords(self.data)

    def _give(self, data: Path) -> None:
        """Make the account that the server runs as, if it is not ours, own and reach its files."""
        if (account := stand_in()) is None:
            return
        if data.stat().st_uid != account.pw_uid:
            for file in (data, *data.rglob("*")):
                os.chown(file, account.pw_uid, account.pw_gid, follow_symlinks=False)

    def _configure(self, data: Path) -> None:
        lines = ["# written at every start; put your own settings into the database with ALTER SYSTEM"]
        lines += [f"{key} = '{value}'" for key, value in self._settings().items()]
        self._write(data / "pipeline.conf", "\n".join(lines) + "\n")
        self._write(data / "pg_hba.conf", self._hba())

    def _write(self, file: Path, text: str) -> None:
        file.write_text(text)
        file.chmod(0o600)
        if (account := stand_in()) is not None:
            os.chown(file, account.pw_uid, account.pw_gid)

    def _hba(self) -> str:
        return HBA

    def _initialise(self) -> None:
        fresh = self.folder / "postgresql.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._give(fresh)
        # initdb's access rules are replaced by ours below.
        self._run(
            "initdb",
            "-D",
            str(fresh),
            "-U",
            ADMIN_ROLE,
            "--auth=reject",
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            "-E",
            "UTF8",
            "--no-sync",
            "--no-instructions",
        )
        with (fresh / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude 'pipeline.conf'\n")
        self._configure(fresh)
        # Single-user mode: the database exists before the first connection.
        self._single(fresh, f"CREATE DATABASE {NAME}\n")
        self._set_passwords(fresh)
        os.sync()
        fresh.rename(self.data)

    def _set_passwords(self, data: Path) -> None:
        """Set roles and passwords from the passfile. In single-user mode, so that nobody can connect meanwhile."""
        passwords = credentials.passwords(self.passwords_file)
        done = data / "pipeline.roles"  # in the data folder, so that a restored copy gets the current passwords
        state = hashlib.sha256(f"{ROLES}{sorted(passwords.items())}".encode()).hexdigest()
        if done.exists() and done.read_text() == state:
            return
        verifiers = {role: credentials.verifier(password) for role, password in passwords.items()}
        names = {"admin": ADMIN_ROLE, "owner": OWNER_ROLE, "program": PROGRAM_ROLE, "name": NAME}
        self._single(data, ROLES.format(**names, verifiers=verifiers))
        self._write(done, state)

    def _single(self, data: Path, text: str) -> None:
        """Run statements, one per line, in single-user mode. TimescaleDB is not involved."""
        without = ["-c", "shared_preload_libraries=", "-c", "log_min_messages=error"]
        self._run("postgres", "--single", "-D", str(data), *without, "postgres", text=text)

    def _run(self, program: str, *args: str, text: str | None = None) -> None:
        done = subprocess.run(
            [*unprivileged(), str(layout.postgres_program(program)), *args],
            input=text,
            capture_output=True,
            text=True,
            env=self.environment(),
        )
        if done.returncode or "ERROR" in done.stderr or "FATAL" in done.stderr:
            raise WrongUse(f"{program} failed in {self.folder}: {(done.stderr or done.stdout).strip()[-600:]}")

    def command(self) -> list[str]:
        return [*unprivileged(), str(layout.postgres_program("postgres")), "-D", str(self.data)]

    def environment(self) -> dict[str, str]:
        """Return the caller's environment without variables that affect PostgreSQL's programs."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_", "LANG"))}
        # initdb and the server look for their data at the path that the packages were built for.
        return kept | {"LC_ALL": "C", "TZDIR": "/usr/share/zoneinfo"}

    def ready(self) -> bool:
        """Whether the database answers a query."""
        try:
            address = make_conninfo(self.url("postgres"), **PRIVATE_DATABASE, connect_timeout=2)
            with psycopg.connect(address) as connection:
                connection.execute("SELECT 1")
            return True
        except psycopg.Error:
            return False

    def leftovers(self) -> list[Path]:
        """Return working folders used by this service's processes only."""
        return [self.data]
