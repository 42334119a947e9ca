"""A small file system for the database that can be filled quickly."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

SIZE_MB = 1500  # enough for the load, small enough to fill quickly


class SmallDisk:
    """A small file system mounted on `folder`, if this process may mount; `there`: whether it is mounted."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        options = f"size={SIZE_MB}m,mode=0700"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
        self.there = done.returncode == 0

    def fill(self) -> None:
        assert self.there
        with suppress(OSError), (self._folder / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))

    def empty(self) -> None:
        if self.there:
            (self._folder / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        if self.there:
            subprocess.run(["umount", "-l", str(self._folder)], check=False)


def copied(source: Path, target: Path) -> None:
    """Copy a folder with owners, modes and times."""
    done = subprocess.run(["cp", "-a", str(source), str(target)], capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip()[-200:])
