"""No row is lost, doubled or in both tiers, whenever the archive, retention or a restore is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pipeline.core.settings import PROJECT

ROUNDS = int(os.environ.get("ARCHIVE_KILLS", "12"))
SEED = int(os.environ.get("ARCHIVE_KILLS_SEED", "1"))


def test_a_kill_at_any_moment_loses_and_doubles_nothing(database_url: str, tmp_path: Path) -> None:
    kill(database_url, ARCHIVE_PATH=str(tmp_path / "archive"))


def test_nor_with_object_storage(database_url: str, object_storage: dict[str, str], tmp_path: Path) -> None:
    kill(database_url, **object_storage, STATE_DIR=str(tmp_path))


def kill(database_url: str, **settings: str) -> None:
    command = [sys.executable, "-m", "tests.archive_kills", database_url, str(ROUNDS), str(SEED)]
    env = {**os.environ, **settings}
    ended = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    print(ended.stdout)
