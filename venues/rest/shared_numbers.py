"""A few numbers shared by all processes of the machine, in a small file that is read and written under `flock`.

A process that dies releases the lock; nothing needs cleaning up.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from pipeline.core.errors import WrongUse

FROZEN_S = 2.0  # a process that holds the lock for this long is assumed to be frozen


@cache
def _boot() -> float:
    """Return a number that identifies this boot of the machine (random(4)); 13 hexadecimal digits fit a double."""
    return float(int(Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", "")[:13], 16))


class SharedNumbers:
    """`count` numbers in the file `folder/name`, and the start of the machine since which they are valid. Raises
    `WrongUse` if the folder is not writable."""

    def __init__(self, folder: Path, name: str, count: int) -> None:
        self._path, self._layout = folder / name, struct.Struct(f"<{1 + count}d")
        try:
            os.close(self._open())
        except OSError as error:
            raise WrongUse(f"STATE_DIR: {folder} cannot be written ({error.strerror}).") from None

    @contextmanager
    def locked(self) -> Iterator[list[float]]:
        """Lock the file and yield its numbers, an empty list if there are none since the machine was started; the list
        is written back on exit. Times in it are CLOCK_MONOTONIC, which all processes of the machine share."""
        descriptor = self._open()
        try:
            _lock(descriptor)
            data = os.pread(descriptor, self._layout.size, 0)
            boot, *numbers = self._layout.unpack(data) if len(data) == self._layout.size else (0.0,)
            if boot != _boot():
                numbers = []
            yield numbers
            os.pwrite(descriptor, self._layout.pack(_boot(), *numbers), 0)
        finally:
            os.close(descriptor)  # releases the lock too

    def _open(self) -> int:
        """Open the file, recreating a deleted folder: its deletion must not end a running program."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)


def _lock(descriptor: int) -> None:
    """Take the lock. It is normally held for microseconds; if a frozen process holds it, continue without the lock."""
    until = time.monotonic() + FROZEN_S
    while time.monotonic() < until:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.005)
