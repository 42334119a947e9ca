"""A few numbers that all processes of a machine share: a small file, read and written under `flock`.

A process that dies releases the lock, and nothing has to be cleaned up.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.errors import WrongUse

FROZEN_S = 2.0


class SharedNumbers:
    """`count` numbers in `folder/name`."""

    def __init__(self, folder: Path, name: str, count: int) -> None:
        self._path, self._layout = folder / name, struct.Struct(f"<{count}d")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._path.touch()
        except OSError as error:
            raise WrongUse(f"STATE_DIR: {folder} cannot be written ({error.strerror}).") from None

    @contextmanager
    def locked(self) -> Iterator[list[float]]:
        """The numbers, for nobody else meanwhile; what the list holds at the end is written back. Empty where there are
        none yet. Moments in it are CLOCK_MONOTONIC: one clock for all processes of the machine, until it boots."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor)
            data = os.pread(descriptor, self._layout.size, 0)
            numbers = list(self._layout.unpack(data)) if len(data) == self._layout.size else []
            yield numbers
            os.pwrite(descriptor, self._layout.pack(*numbers), 0)
        finally:
            os.close(descriptor)  # gives up the lock too


def _lock(descriptor: int) -> None:
    """It is held for microseconds; by a frozen process for ever, and then the file is used without it."""
    until = time.monotonic() + FROZEN_S
    while time.monotonic() < until:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.005)
