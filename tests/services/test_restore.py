"""A backup is worth what a restore of it is: as docs/operations.md says, with the private database."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from consumers.archive import prepared, round_of
from consumers.trades import Trades
from pipeline.archive import catalog
from pipeline.core.settings import OWNER_ROLE, ArchiveSettings, DatabaseSettings, load
from pipeline.database.connection import connect
from pipeline.database.migrate import database_when_ready
from pipeline.ops.claim import provable
from pipeline.services.database import NAME, Database
from pipeline.services.instance import Service
from pipeline.services.layout import postgres_program
from pipeline.services.processes import free_ports
from pipeline.verify import verify
from tests.messages import received, store, trade, trades_record


def _work(ids: range) -> tuple[int, int, list[str]]:
    """Rows that the writer's role stored, and that the owner's archived."""
    settings, archive = load(DatabaseSettings), load(ArchiveSettings)
    database_when_ready(settings, threading.Event())
    with connect(settings, "test") as conn:
        record = trades_record([trade(i) for i in ids], origin="history")
        stored, letters = store(Trades(), conn, [received("trades", record)])
        assert letters == []
    with connect(settings, "test", role=OWNER_ROLE) as conn:
        assert catalog.lock(conn)
        done = round_of(prepared(conn, archive), conn, archive, threading.Event())
        catalog.unlock(conn)
    return stored, done.rows, done.failed


def test_a_dump_is_restored_and_every_program_works_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a restore after which no writer may store and no archive may write, because rights on a database are in
    no dump of it, and --no-owner makes the superuser the owner of all tables."""
    (port,) = free_ports(1)
    for name, value in {"SERVICES_DATA": tmp_path, "DATABASE_PORT": port, "ARCHIVE_PATH": tmp_path / "files"}.items():
        monkeypatch.setenv(name, str(value))
    database = Database(tmp_path / "database", port, "384m", False)
    service = Service(database)
    dump = str(tmp_path / "market_data.dump")

    def run(program: str, *arguments: str) -> None:
        where = ("-h", "127.0.0.1", "-p", str(port), "-U", "postgres")
        environment: Any = database.environment() | {"PGPASSFILE": str(database.passwords_file)}
        command = [str(postgres_program(program)), *where, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    try:
        service.start()
        assert _work(range(1, 100)) == (99, 99, [])
        run("pg_dump", "-Fc", "-f", dump, NAME)
        run("psql", "-c", f"DROP DATABASE {NAME} WITH (FORCE)", "-c", f"CREATE DATABASE {NAME}", "postgres")
        run("psql", "-c", "CREATE EXTENSION timescaledb", "-c", "SELECT timescaledb_pre_restore()", NAME)
        run("pg_restore", "--no-owner", "-Fc", "-d", NAME, dump)
        run("psql", "-c", "SELECT timescaledb_post_restore()", NAME)
        assert _work(range(50, 200)) == (100, 199, [])
        with connect(load(DatabaseSettings), "test", read_only=True) as conn:
            assert [(v.rows, v.wrong) for v in verify(conn) if provable(v.proof)] == [(199, [])]
    finally:
        service.stop()
