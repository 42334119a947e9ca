"""Write stdin to a log file with rotation.

    supervisord -c supervisord.conf | .venv/bin/python -m pipeline.log_file market-data.log

`market-data.log` is the newest file, `.1` to `.4` are older; anything older is deleted. The demonstration's log is
written this way, by a separate process in its own session: a demonstration that is suspended or killed must not leave
its programs blocked on a pipe that nobody reads.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

MAX_BYTES = 10_000_000
KEPT = 4  # older files; a demonstration writes some 2 MB a day, live programs some 20 MB
_CHUNK = 1 << 16


class LogFile:
    """A log file and up to `kept` older ones, none larger than `max_bytes`."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> None:
        self._path, self._max, self._kept = path, max_bytes, kept
        self._file = -1
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append `data`, rotating at a line end when the file is full. On errors (disk full) these lines are lost."""
        while data:
            try:
                if self._file < 0:
                    self._open()
                fits = data[: max(0, self._max - self._size)]
                if len(fits) < len(data):
                    fits = fits[: fits.rfind(b"\n") + 1] or (b"" if self._size else fits)
                if fits:
                    self._size += os.write(self._file, fits)
                data = data[len(fits) :]
                if data:
                    self._set_aside()
            except OSError:
                return

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Readable by its owner only: a log may quote received data.
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size

    def _set_aside(self) -> None:
        os.close(self._file)
        self._file = -1
        for number in range(self._kept, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
            if newer.exists():
                newer.replace(older)
        if not self._kept:
            self._path.unlink()


def set_aside_if_full(path: Path, max_bytes: int = MAX_BYTES) -> None:
    """Rotate a log that a service writes itself, before it starts; one older file is kept."""
    if path.exists() and path.stat().st_size > max_bytes:
        path.replace(path.with_name(f"{path.name}.1"))


def writer(path: Path) -> subprocess.Popen[bytes]:
    """Start a process that writes its `stdin` to `path`; it ends when the pipe is closed."""
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(path.absolute())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        cwd=Path(__file__).resolve().parents[2],
    )


def main() -> int:
    """Write stdin to the file named on the command line; returns the exit code."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 0 if sys.argv[1:] in (["-h"], ["--help"]) else 2
    # Ctrl-C is for the writing programs, whose last lines are still to be written
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log = LogFile(Path(sys.argv[1]))
    begun = b""
    while data := os.read(0, _CHUNK):
        # Only complete lines, so that a file never ends inside one.
        end = data.rfind(b"\n") + 1
        if end or len(begun) > _CHUNK:
            log.write(begun + data[:end] if end else begun + data)
            begun = data[end:] if end else b""
        else:
            begun += data
    log.write(begun)
    return 0


if __name__ == "__main__":
    sys.exit(main())
