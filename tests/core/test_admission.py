"""Exit code 2 is for what a person typed: who was let in before waits for a password that is being changed."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
from psycopg import conninfo, sql

from pipeline.broker.client import Bus
from tests.messages import trade, trades_record
from tests.writer_help import until


@pytest.fixture
def role(database_url: str) -> Iterator[tuple[str, str]]:
    """A superuser with a password of its own, which a test may change: name and address."""
    name, password = f"test_{secrets.token_hex(5)}", secrets.token_hex(8)
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD {}").format(sql.Identifier(name), password))
        yield name, conninfo.make_conninfo(database_url, user=name, password=password)
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (name,))
        conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def change(conn: Any, name: str, password: str) -> None:
    """Another password, and nobody stays connected with the old one."""
    conn.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), password))
    conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (name,))


def test_a_password_that_was_accepted_before_is_waited_for(
    bus: Bus,
    env: Callable[..., dict[str, str]],
    role: tuple[str, str],
    database_url: str,
    python: str,
    free_port: Callable[[], int],
    tmp_path: Path,
) -> None:
    """Prevents a writer that ends for good while the operator changes a password, and one that waits for a typing
    error."""
    name, url = role
    with pytest.raises(psycopg.OperationalError), psycopg.connect(url, password="wrong"):
        pytest.skip("the database of TEST_SERVICES_DIR asks nobody for a password")
    base = free_port() - 1
    environment = env(DATABASE_URL=url, METRICS_BASE_PORT=base)
    with psycopg.connect(database_url, autocommit=True) as conn, (tmp_path / "log").open("wb") as log:

        def stored() -> int:
            row = conn.execute("SELECT count(*) FROM trades").fetchone()
            return int(row[0]) if row else 0

        publisher = bus.publisher("trades", "kraken", "BTC-USD", "trades", "test")
        publisher.send(trades_record([trade(1)]))
        command = [python, "-m", "consumers.trades"]
        writer = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            until(lambda: stored() == 1)
            good = conninfo.conninfo_to_dict(url)["password"]
            change(conn, name, "another")
            publisher.send(trades_record([trade(2)]))
            until(lambda: requests.get(f"http://127.0.0.1:{base + 1}/health", timeout=10).status_code == 503)
            second = environment | {"METRICS_BASE_PORT": "0"}
            again = subprocess.run(command, env=second, capture_output=True, text=True, timeout=90)
            assert again.returncode == 2
            assert "the database refuses the connection; check DATABASE_URL" in again.stderr
            assert writer.poll() is None
            change(conn, name, str(good))
            until(lambda: stored() == 2)
            until(lambda: requests.get(f"http://127.0.0.1:{base + 1}/health", timeout=10).ok)
        finally:
            writer.terminate()
            writer.wait(20)
