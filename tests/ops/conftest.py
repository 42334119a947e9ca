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
def storage(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "archive")
