"""Identify processes by pid *and* start time, so that a reused pid is never mistaken; never by name."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process, uniquely identified by pid and start in clock ticks since boot (field 22 of /proc/<pid>/stat)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """Return the running process with this pid; None if there is none, or only a zombie.

        The main thread of a killed process may be a zombie before its other threads have ended, and until the last of
        them (field 20) has, its ports are taken and its files open: such a process is still running.
        """
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" and int(fields[17]) <= 1 else cls(pid, int(fields[19]))

    @property
    def alive(self) -> bool:
        return Process.of(self.pid) == self

    @property
    def command(self) -> bytes:
        """Return its command line, NUL-separated; empty if it has ended."""
        try:
            return Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return b""

    def send(self, number: signal.Signals) -> None:
        """Send a signal to exactly this process; does nothing if it has ended."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive:  # checked after opening the handle: the pid can no longer be reused
                signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)

    def record(self, file: Path) -> None:
        """Record this process in `file`, for `recorded`."""
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(f".{os.getpid()}")
        fresh.write_text(f"{self.pid} {self.started}\n")
        fresh.replace(file)


def recorded(file: Path) -> Process | None:
    """Return the process recorded in `file`, if it is still running."""
    try:
        pid, started = map(int, file.read_text().split())
    except (OSError, ValueError):
        return None
    process = Process(pid, started)
    return process if process.alive else None


def working_in(folder: Path) -> list[Process]:
    """Return processes whose working folder is `folder`: backends of a PostgreSQL whose postmaster was killed."""
    wanted, found = str(folder.resolve()), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                at_home = str((entry / "cwd").readlink()) == wanted
            except OSError:
                continue
            if at_home and (process := Process.of(int(entry.name))):
                found.append(process)
    return found


def wait_until(condition: Callable[[], bool], seconds: float, pause: float = 0.05) -> bool:
    """Wait until `condition` is true, for at most `seconds`; returns whether it became true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True


def end(processes: Iterable[Process], polite: signal.Signals, seconds: float) -> None:
    """End processes: by the polite signal, then by SIGKILL after `seconds`."""
    left = [process for process in processes if process.alive]
    for process in left:
        process.send(signal.SIGCONT)  # a stopped one would not see the polite signal
        process.send(polite)
    wait_until(lambda: not any(process.alive for process in left), seconds)
    for process in left:
        process.send(signal.SIGKILL)
    wait_until(lambda: not any(process.alive for process in left), 10)


def port_is_free(port: int) -> bool:
    """Whether something can listen on 127.0.0.1:`port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Return different free ports of 127.0.0.1."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def free_range(size: int) -> int:
    """Return the first of `size` consecutive free ports of 127.0.0.1.

    Chosen at random, so that two concurrent callers find different ones, and below 32,768, where the kernel's ephemeral
    ports start.
    """
    while True:
        base = random.SystemRandom().randrange(15_000, 32_000 - size)
        if all(port_is_free(port) for port in range(base, base + size)):
            return base
