"""No row is lost, doubled or in both tiers, whenever the archive, retention or a restore is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pipeline.core.settings import PROJECT

ROUNDS = int(os.environ.get("ARCHIVE_KILLS", "25"))
SEED = int(os.environ.get("ARCHIVE_KILLS_SEED", "1"))


def test_a_kill_at_any_moment_loses_and_doubles_nothing(database_url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.archive_kills", database_url, str(tmp_path), str(ROUNDS), str(SEED)]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    print(ended.stdout)
