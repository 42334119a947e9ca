"""Storage of the archive's files: a folder.

Paths are relative, from `pipeline.archive.layout.new_path`. A file appears under its path atomically, and is durable
when `keep` returns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

WORK = ".writing"
"""Folder of files being written. While no writer holds its lock, its content is garbage."""


class Storage(Protocol):
    """A storage. One writer calls `keep` and `remove`; any number of readers call `open`."""

    @property
    def address(self) -> str:
        """Its address in the catalog (`data_path`); ends with `/`."""
        ...

    @property
    def work(self) -> Path:
        """A local folder for files being written, on the same disk if possible."""
        ...

    def keep(self, file: Path, path: str) -> None:
        """Store a finished file of `work` under `path`. Raises `OSError`; the file may or may not be stored then."""
        ...

    def open(self, path: str) -> Any:
        """Open a file for pyarrow. Raises `FileNotFoundError`, `OSError`."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file, if it exists."""
        ...

    def has(self, path: str) -> bool:
        """Whether the file exists."""
        ...

    def files(self) -> Iterator[str]:
        """Yield the paths of all stored files."""
        ...


class Folder:
    """A local folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    @property
    def address(self) -> str:
        return f"{self._root}/"

    @property
    def work(self) -> Path:
        return self._root / WORK

    def keep(self, file: Path, path: str) -> None:
        target = self._root / path
        missing = [one for one in (target.parent, *target.parent.parents) if not one.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
        for folder in (target.parent, *(one.parent for one in missing)):
            _sync(folder)
        with target.open("rb") as opened:  # so that a later read comes from the disk, not from the page cache
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def open(self, path: str) -> Any:
        return self._root / path

    def remove(self, path: str) -> None:
        target = self._root / path
        target.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            for folder in target.relative_to(self._root).parents[:-2]:
                (self._root / folder).rmdir()

    def has(self, path: str) -> bool:
        return (self._root / path).is_file()

    def files(self) -> Iterator[str]:
        for file in sorted(self._root.glob("main/**/*.parquet")):
            yield file.relative_to(self._root).as_posix()


def _sync(folder: Path) -> None:
    """Sync a folder's entries to disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
