"""Data folders of earlier versions and of restores: no row is lost, and none stays open."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg
import pytest

from consumers.trades import Trades
from pipeline.core.settings import ADMIN_ROLE, OWNER_ROLE, PROGRAM_ROLE
from pipeline.database.migrate import migrate
from pipeline.services.accounts import unprivileged
from pipeline.services.database import NAME, Database
from pipeline.services.instance import Service
from pipeline.services.layout import postgres_program
from pipeline.services.processes import free_ports
from tests.messages import received, store, trade, trades_record


def _initialise_as_before(database: Database) -> None:
    """A data folder as versions before there were passwords made it: whoever comes is let in, as whom he says."""
    database.data.mkdir(parents=True, mode=0o700)
    run = lambda program, *args, **more: subprocess.run(  # noqa: E731
        [*unprivileged(), str(postgres_program(program)), *args],
        env=database.environment(),
        capture_output=True,
        check=True,
        **more,
    )
    run(
        "initdb",
        "-D",
        str(database.data),
        "-U",
        "postgres",
        "--auth=trust",
        "--locale-provider=builtin",
        "--locale=C.UTF-8",
        "-E",
        "UTF8",
        "--no-sync",
    )
    with (database.data / "postgresql.conf").open("a") as conf:
        conf.write("\ninclude 'pipeline.conf'\n")
    (database.data / "pipeline.conf").write_text("")
    run("postgres", "--single", "-D", str(database.data), "postgres", input=f"CREATE DATABASE {NAME}\n".encode())


class _Before(Database):
    """The database service as it was."""

    def prepare(self) -> None:
        if not self.data.exists():
            _initialise_as_before(self)
        settings = "".join(f"{key} = '{value}'\n" for key, value in self._settings().items())
        (self.data / "pipeline.conf").write_text(settings)

    def ready(self) -> bool:
        try:
            psycopg.connect(f"postgresql://postgres@127.0.0.1:{self.port}/{NAME}", connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def test_a_data_folder_of_an_earlier_version_is_brought_over(tmp_path: Path) -> None:
    """Prevents both: rows that are lost with an upgrade, and a folder that stays open because it was."""
    (port,) = free_ports(1)
    folder = tmp_path / "database"
    older = Service(_Before(folder, port, "384m", False))
    anybody = f"postgresql://postgres@127.0.0.1:{port}/{NAME}"
    try:
        older.start()
        with psycopg.connect(anybody, autocommit=True) as conn:
            migrate(conn)
            store(Trades(), conn, [received("trades", trades_record([trade(1), trade(2)]))])
            conn.execute("CREATE TABLE notes AS SELECT 'mine' AS note")
            chunks = conn.execute("SELECT show_chunks('trades')::text").fetchall()
        older.kill()  # as a power cut leaves it: the next start has to recover first
    finally:
        older.end_leftovers()
    present = Database(folder, port, "384m", False)
    newer = Service(present)
    try:
        newer.start()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(anybody, passfile="/dev/null")
        with psycopg.connect(present.url(), autocommit=True) as conn:
            migrate(conn)
        with psycopg.connect(present.url(user=PROGRAM_ROLE), autocommit=True) as conn:
            assert store(Trades(), conn, [received("trades", trades_record([trade(2), trade(3)]))])[0] == 1
            assert conn.execute("SELECT array_agg(trade_id ORDER BY trade_id) FROM trades").fetchone() == ([1, 2, 3],)
        with psycopg.connect(present.url(user=OWNER_ROLE), autocommit=True) as conn:
            assert conn.execute("SELECT note FROM notes").fetchone() == ("mine",)
            assert conn.execute("SELECT drop_chunks('trades', now())").fetchall() == chunks
            conn.execute("ALTER TABLE instruments ADD COLUMN note text")
    finally:
        newer.stop()


def test_lost_passwords_are_replaced(tmp_path: Path) -> None:
    """Prevents a database that nobody enters any more, after a restore without that file or with an older one."""
    (port,) = free_ports(1)
    present = Database(tmp_path / "database", port, "384m", False)
    service = Service(present)
    try:
        service.start()
        first = present.url()
        service.stop()
        present.passwords_file.unlink()
        service.start()
        assert present.url() != first
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(first)
        with psycopg.connect(present.url()) as conn:
            assert conn.execute("SELECT current_user").fetchone() == (ADMIN_ROLE,)
    finally:
        service.stop()
