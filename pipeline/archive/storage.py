"""Where the files of the archive lie: a folder.

A path is relative, as `pipeline.archive.layout.new_path` makes it. A file appears under its path whole or not at all,
and is on the disk when `keep` returns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

WORK = ".writing"
"""Folder of files that are being written. What lies there while no writer has its lock is rubbish."""


class Storage(Protocol):
    """One writer keeps and removes, any number of readers open."""

    @property
    def address(self) -> str:
        """What the catalog calls it (`data_path`): ends with `/`."""
        ...

    @property
    def work(self) -> Path:
        """A local folder for files that are being written, on the same disk where there is one."""
        ...

    def keep(self, file: Path, path: str) -> None:
        """Take a finished file of `work` over under `path`. Raises `OSError`, and then nothing is kept for certain."""
        ...

    def open(self, path: str) -> Any:
        """For pyarrow. Raises `FileNotFoundError`, `OSError`."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file; nothing happens where there is none."""
        ...

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        ...

    def files(self) -> Iterator[str]:
        """Paths of all files that are kept."""
        ...


class Folder:
    """A folder of this machine."""

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
        with target.open("rb") as opened:  # so that who reads it back asks the disk and not the memory
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
    """Have the names in a folder on the disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
