"""An S3 server on loopback: moto, which imitates one, or with S3_SERVER=/path/to/versitygw a real one, which keeps
objects as files (`go install github.com/versity/versitygw/cmd/versitygw@latest`)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs

from pipeline.services.processes import free_ports
from tests.environment import UNMEASURED
from tests.writer_help import until


@pytest.fixture
def object_storage(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The settings of a bucket of its own."""
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
