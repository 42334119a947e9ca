"""What tests of an archive have: a database, and a folder for the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipeline.archive.storage import Folder


@pytest.fixture
def conn(database_url: str) -> Iterator[Any]:
    with psycopg.connect(database_url, autocommit=True) as made:
        yield made


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Where the settings say."""
    monkeypatch.setenv("ARCHIVE_PATH", str(tmp_path / "archive"))
    return Folder(tmp_path / "archive")
