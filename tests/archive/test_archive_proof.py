"""Files are checked against ledger and catalog, by us and by a stranger; a check that cannot fail proves nothing."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.archive.audit import audit
from pipeline.archive.storage import Folder
from pipeline.core.settings import PROJECT
from tests.archive_help import (
    EURUSD_DAY,
    EURUSD_QUOTES,
    archive_all,
    archive_in,
    store_candles,
    store_eurusd_day,
    store_kraken_trades,
)
from tests.environment import Environment


@pytest.fixture
def folder(conn: Any, tmp_path: Path) -> Path:
    """An archive with a file of each kind, one of quotes in two row groups."""
    store_eurusd_day(conn)
    store_kraken_trades(conn)
    store_candles(conn, close="101")
    assert archive_all(conn, archive_in(conn, tmp_path / "archive")) == []
    return tmp_path / "archive"


def wrong(conn: Any, folder: Path, **asked: Any) -> dict[str, list[str]]:
    return {one.kind: one.wrong for one in audit(conn, Folder(folder), **asked)}


def test_what_was_archived_is_proven(conn: Any, folder: Path) -> None:
    assert wrong(conn, folder) == {"trades": [], "quotes": [], "exchange_candles": []}
    assert wrong(conn, folder, venue="dukascopy") == {"quotes": []}
    assert wrong(conn, folder, from_=EURUSD_DAY, to=EURUSD_DAY + timedelta(hours=1)) == {"quotes": []}
    assert wrong(conn, folder, to=EURUSD_DAY) == {}


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE archive_files SET hash = repeat('0', 64)", "hash is "),
        ("UPDATE archive_files SET rows = rows + 1", "rows is 136741, not 136742"),
        ("UPDATE archive_files SET bytes = bytes - 1", "the catalog has 136741 rows in"),
        ("UPDATE archive_files SET last_ts = last_ts + INTERVAL '1 us'", "last_ts is "),
        ("UPDATE archive_files SET revision = 7", "'revision': 7"),
        ("UPDATE lake.ducklake_data_file SET record_count = 5", "the catalog has 5 rows"),
        ("UPDATE lake.ducklake_data_file SET end_snapshot = 2", "the catalog has None rows"),
        ("UPDATE archive_files SET path = replace(path, '2019-02-04', '2019-02-05')", "No such file"),
    ],
)
def test_what_disagrees_with_a_file_is_found(conn: Any, folder: Path, damage: str, found: str) -> None:
    conn.execute(damage)
    assert found in "; ".join(wrong(conn, folder)["quotes"])


def test_a_file_that_was_changed_is_found_by_the_command(
    conn: Any, folder: Path, env: Environment, python: str
) -> None:
    def verify(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [python, "-m", "pipeline.verify", "--archive", *arguments]
        return subprocess.run(command, env=env(ARCHIVE_PATH=folder), capture_output=True, text=True, timeout=120)

    good = verify()
    assert (good.returncode, good.stdout.count("as in the ledger")) == (0, 3), good.stderr
    assert f"{EURUSD_QUOTES:,}" in good.stdout
    (file,) = folder.rglob("2019-02-04.*.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    bad = verify("--json")
    assert bad.returncode == 1
    told = {one["kind"]: one["wrong"] for one in map(json.loads, bad.stdout.splitlines())}
    assert told["quotes"] != []
    assert (told["trades"], told["exchange_candles"]) == ([], [])
    nothing = verify("--venue", "nowhere")
    assert (nothing.returncode, nothing.stderr.count("\n")) == (2, 1)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The one that docs/archive.md shows."""
    (text,) = re.findall(
        r"```python\n(\"{3}Whether archived.*?)```", (PROJECT / "docs/archive.md").read_text(), re.DOTALL
    )
    assert set(re.findall(r"^import (\w+)", text, re.MULTILINE)) == {"hashlib", "sys", "pyarrow"}
    assert len(text.splitlines()) <= 36
    (tmp_path / "check.py").write_text(text)
    return tmp_path / "check.py"


def test_a_stranger_comes_to_the_same_hashes(conn: Any, folder: Path, script: Path, python: str) -> None:
    """A proof that only its own program can repeat is none."""
    told = conn.execute("SELECT hash, path FROM archived ORDER BY path").fetchall()
    assert len(told) == 3

    def check(lines: list[tuple[str, str]]) -> subprocess.CompletedProcess[str]:
        given = "".join(f"{hash_} {path}\n" for hash_, path in lines)
        command = [python, "-I", script, folder]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, cwd=folder)

    assert (check(told).returncode, check(told).stderr) == (0, "")
    swapped = check([(told[1][0], told[0][1]), told[1], told[2]])
    assert (swapped.returncode, swapped.stderr) == (1, f"wrong: {told[0][1]}\n")
