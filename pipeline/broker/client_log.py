"""Forward the Pulsar client's own log lines to our log.

The C++ client writes plain text. A Python logger would be called from its threads, which has deadlocked with the GIL
(pulsar-client-python #116), and a pipe can block a writer that holds the GIL while our reader waits for it. So it
writes to an in-memory file, which never blocks, and a thread of ours reads it.
"""

from __future__ import annotations

import atexit
import os
import re
import threading
from functools import cache

import pulsar

from pipeline.core import events
from pipeline.core.log import get_logger

POLL_S = 0.5
# An incompatible schema alone gives 250 lines at once: log the first ones and the number of the others.
LINES_A_POLL = 20
# The file is truncated when it has been read to its end and is larger than this; a line written at that moment is lost.
KEEP_BYTES = 256 * 1024
READ_BYTES = 1 << 20

# 2026-11-25 18:28:38.652 ERROR [140085256091328] ClientConnection:485 | [<none> -> pulsar://...] Failed to establish
_LINE = re.compile(r"\S+ \S+ (?P<level>[A-Z]+) +\[\d+\] (?P<source>\w+:\d+) \| (?P<text>.*)", re.DOTALL)


class ClientLog:
    """Reads the client's log from `path` in a thread of its own."""

    def __init__(self) -> None:
        self._file = os.memfd_create("pulsar-client-log", os.MFD_CLOEXEC)
        self.path = f"/proc/self/fd/{self._file}"
        self._read = 0
        self._rest = b""
        self._reading = threading.Lock()
        self._log = get_logger()
        threading.Thread(target=self._run, name="pulsar-client-log", daemon=True).start()
        atexit.register(self.poll)

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(POLL_S):
            self.poll()

    def poll(self) -> None:
        """Log the lines written since the last call."""
        with self._reading:
            count, more = 0, 0
            while data := os.pread(self._file, READ_BYTES, self._read):
                self._read += len(data)
                *lines, rest = (self._rest + data).split(b"\n")
                self._rest = rest[-READ_BYTES:]
                for line in lines:
                    if count < LINES_A_POLL:
                        self._log_line(line)
                    count += 1
            more = count - LINES_A_POLL
            if more > 0:
                self._log.warning(events.PULSAR_CLIENT, text=f"{more} more lines", lines=more)
            if self._read > KEEP_BYTES and os.fstat(self._file).st_size == self._read:
                os.ftruncate(self._file, 0)  # the writer appends, wherever the end is
                self._read = 0

    def _log_line(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if not text:
            return
        found = _LINE.fullmatch(text)
        if found is None:  # a continuation line
            self._log.warning(events.PULSAR_CLIENT, text=text)
            return
        log = self._log.error if found["level"] in ("ERROR", "FATAL") else self._log.warning
        log(events.PULSAR_CLIENT, text=found["text"], source=found["source"])


@cache
def _the_log() -> ClientLog:
    return ClientLog()


def client_logger() -> pulsar.FileLogger:
    """Return the logger for `pulsar.Client(logger=...)`; the C++ client accepts one per process."""
    return pulsar.FileLogger(pulsar.LoggerLevel.Error, _the_log().path)
