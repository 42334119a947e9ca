"""A database, an archive in a folder, and an object storage."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pyarrow import fs

from pipeline.archive.archive import Archive
from pipeline.services.processes import free_ports
from tests.archive_help import archive_in
from tests.environment import UNMEASURED
from tests.writer_help import until


@pytest.fixture
def conn(database_url: str) -> Iterator[Any]:
    with psycopg.connect(database_url, autocommit=True) as made:
        yield made


@pytest.fixture
def archive(conn: Any, tmp_path: Path) -> Archive:
    return archive_in(conn, tmp_path / "archive")


@pytest.fixture
def object_storage(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The settings of a bucket on an S3 server on loopback.

    It is moto, which imitates one, or with S3_SERVER=/path/to/versitygw a real one, which keeps objects as files
    (`go install github.com/versity/versitygw/cmd/versitygw@latest`).
    """
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    if real := os.environ.get("S3_SERVER"):
        buckets = tmp_path / "buckets"
        buckets.mkdir()
        listen = ["--port", f"127.0.0.1:{port}", "--access", "key", "--secret", "secret"]
        command = [real, *listen, "posix", str(buckets)]
    log_file = tmp_path / "s3.log"
    with log_file.open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**UNMEASURED, "PATH": ""})
    try:
        files = fs.S3FileSystem(
            access_key="key",
            secret_key="secret",
            endpoint_override=f"http://127.0.0.1:{port}",
            region="us-east-1",
            allow_bucket_creation=True,
        )

        def made() -> bool:
            assert server.poll() is None, log_file.read_text()
            try:
                files.create_dir("ticks")
            except OSError:
                return False
            return True

        until(made)
        yield {
            "ARCHIVE_PATH": "s3://ticks/market-data",
            "ARCHIVE_S3_ENDPOINT": f"http://127.0.0.1:{port}",
            "ARCHIVE_S3_ACCESS_KEY": "key",
            "ARCHIVE_S3_SECRET_KEY": "secret",
        }
    finally:
        server.kill()
        server.wait()
