"""The program: one round by hand, a look without doing anything, and the supervised life with its health."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psycopg

from pipeline.archive import catalog
from pipeline.core.programs import BY_NAME
from pipeline.core.settings import PROJECT
from pipeline.services.processes import free_ports
from tests.archive_help import EURUSD_QUOTES, KRAKEN_TRADES, store_eurusd_day, store_kraken_trades
from tests.environment import Environment
from tests.writer_help import until

PROGRAM = [sys.executable, "-m", "consumers.archive"]


def run(env: dict[str, str], *arguments: str) -> tuple[int, str]:
    ended = subprocess.run([*PROGRAM, *arguments], cwd=PROJECT, env=env, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout + ended.stderr


def test_a_round_by_hand_archives_what_a_dry_run_announced(env: Environment, database_url: str, tmp_path: Path) -> None:
    settings = env(ARCHIVE_PATH=tmp_path / "archive")
    with psycopg.connect(database_url, autocommit=True) as conn:
        store_eurusd_day(conn)
        store_kraken_trades(conn)
        code, said = run(settings, "--dry-run")
        assert (code, "136,741" in said, "1,000" in said) == (0, True, True), said
        assert not (tmp_path / "archive").exists()
        code, said = run(settings, "--once")
        assert code == 0, said
        assert f"archived 2 files with {EURUSD_QUOTES + KRAKEN_TRADES:,} rows, 5." in said
        code, said = run(settings, "--once")
        assert (code, "archived 0 files" in said) == (0, True), said
        assert catalog.lock(conn)
        code, said = run(settings, "--once")
        assert (code, "another process is archiving" in said) == (1, True), said
        catalog.unlock(conn)
        elsewhere = tmp_path / "elsewhere"
        code, said = run(env(ARCHIVE_PATH=elsewhere), "--once")
        assert (code, "move them there first" in said) == (2, True), said
        (tmp_path / "archive").rename(elsewhere)
        assert run(env(ARCHIVE_PATH=elsewhere), "--once")[0] == 0
        assert catalog.data_path(conn) == f"{elsewhere}/"


def test_the_supervised_program_archives_says_how_it_is_and_ends_in_order(
    env: Environment, database_url: str, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    with psycopg.connect(database_url, autocommit=True) as conn:
        store_kraken_trades(conn)
        settings = env(ARCHIVE_PATH=tmp_path / "archive", METRICS_BASE_PORT=port - BY_NAME["archive"].offset)
        process = subprocess.Popen(PROGRAM, cwd=PROJECT, env=settings, stdout=subprocess.DEVNULL)
        try:
            until(lambda: conn.execute("SELECT count(*) FROM archived").fetchone() == (1,))
            told = until(lambda: (answer := health(port)).get("last_round_at") and answer)
            assert (told["ok"], told["archived"], told["failed"]) == (True, 1, 0)
            with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                assert b'archived_rows_total{kind="trades"} 1000.0' in answer.read()
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def health(port: int) -> dict[str, Any]:
    with urlopen(f"http://127.0.0.1:{port}/health") as answer:
        told: dict[str, Any] = json.load(answer)
        return told


def test_switched_off_it_ends_at_once(env: Environment) -> None:
    code, said = run(env(ARCHIVE_ENABLED="false"))
    assert (code, "ARCHIVE_ENABLED is false" in said) == (0, True)
