"""The archive's files in S3-compatible object storage.

An interrupted upload leaves an object unknown to the catalog, which is swept, or invisible parts, for which the bucket
should have a rule that aborts incomplete multipart uploads. Tested against an S3 emulator (moto) and a real S3 server
(versitygw) on loopback; not tried with a cloud account.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyarrow import fs

from pipeline.core.errors import WrongUse
from pipeline.core.settings import ArchiveSettings

PART_BYTES = 8 << 20
CONNECT_S, ANSWER_S = 10, 30


class Bucket:
    """`s3://bucket/prefix`. `work`: a local folder for files that are being written."""

    def __init__(self, settings: ArchiveSettings, work: Path) -> None:
        self._work = work
        self._root = settings.place.removeprefix("s3://")
        secret = settings.s3_secret_key
        if (settings.s3_access_key is None) != (secret is None):
            raise WrongUse("one of ARCHIVE_S3_ACCESS_KEY and ARCHIVE_S3_SECRET_KEY is missing: set both or none.")
        self._files = fs.S3FileSystem(
            access_key=settings.s3_access_key,
            secret_key=secret and secret.get_secret_value(),
            endpoint_override=settings.s3_endpoint,
            region=settings.s3_region,
            connect_timeout=CONNECT_S,
            request_timeout=ANSWER_S,
            background_writes=False,
        )

    @property
    def address(self) -> str:
        return f"s3://{self._root}/"

    @property
    def work(self) -> Path:
        return self._work

    def keep(self, file: Path, path: str) -> None:
        with (
            file.open("rb") as source,
            self._files.open_output_stream(self._at(path), buffer_size=PART_BYTES) as target,
        ):
            shutil.copyfileobj(source, target, PART_BYTES)
        file.unlink()

    def open(self, path: str) -> Any:
        return self._files.open_input_file(self._at(path))

    def has(self, path: str) -> bool:
        found = self._files.get_file_info(self._at(path))
        return bool(found.type == fs.FileType.File)

    def remove(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._files.delete_file(self._at(path))

    def files(self) -> Iterator[str]:
        listed = self._files.get_file_info(fs.FileSelector(self._root, recursive=True, allow_not_found=True))
        for one in listed:
            if one.type == fs.FileType.File and one.path.endswith(".parquet"):
                yield one.path.removeprefix(f"{self._root}/")

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"
