"""Start the project's programs by forking a process that has imported them.

A start of Python takes 0.6 to 0.9 s of processor time until a program's first own line, nearly all of it imports, and
the tests start some seven hundred programs. So what a test starts by `subprocess` as `[sys.executable, "-m", MODULE]`
is forked where nothing depends on how it came to be; pid, pipes, signals and exit code are as ever. Started in full are
programs whose lines are measured (`tests.environment`), those under supervisord, and whatever asks for something
unusual: another account, another `PYTHONPATH`, settings of the loader or the allocator.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import inspect
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.settings import PROJECT

# What these import is there before a fork; they themselves are executed after it. Not `producers.dukascopy`: its tests
# load twice in a row, and a second look at an hour counts only when the vendor's clock, which has whole seconds, has
# moved on. It has during a start in full.
IMPORTED = (
    "consumers.candles",
    "consumers.gap_filler.__main__",
    "consumers.trades",
    "pipeline.bootstrap",
    "pipeline.doctor",
    "pipeline.status",
    "producers.binance",
    "producers.bitstamp",
    "producers.coinbase",
    "producers.exchange_candles.__main__",
    "producers.kraken",
    "producers.oanda",
    "simulator.__main__",
    "tests.hurried",
)
# These import the rest after it: pyarrow and duckdb start threads, which a fork leaves behind with the locks they hold.
THREADED = (
    "consumers.archive",
    "consumers.quotes",
    "consumers.scout",
    "dashboard.__main__",
    "pipeline.certificate",
    "pipeline.duckdb",
    "pipeline.retention",
    "pipeline.verify",
)
FORKED = {program.removesuffix(".__main__") for program in (*IMPORTED, *THREADED)}
# Read by the loader, the allocator or the interpreter before its first line.
BEFORE_MAIN = ("LD_", "MALLOC_", "GLIBC_", "PYTHON", "OPENBLAS_", "OMP_")
MOST_BYTES = 1 << 17  # of a request: mostly the environment
NUMBER = 8  # bytes of a pid, and of an exit code


def _early(environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment takes effect before a program's first line."""
    found = {name: value for name, value in environment.items() if name.startswith(BEFORE_MAIN)}
    return {**found, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}


# of the tests, and so of the process that forks
EARLY = _early(os.environ)


class Popen(subprocess.Popen[Any]):
    """`subprocess.Popen`, which forks programs of ours."""

    _status: int | None = None  # end of a pipe: the pid, then how the program ended

    def __init__(self, *arguments: Any, env: Any = None, **options: Any) -> None:
        super().__init__(*arguments, env=dict(os.environ) if env is None else env, **options)

    @property
    def is_forked(self) -> bool:
        return self._status is not None

    def _execute_child(self, *arguments: Any, **options: Any) -> None:
        real = super()._execute_child  # type: ignore[misc]
        asked = inspect.signature(real).bind(*arguments, **options).arguments
        if not _is_plain(asked):
            real(*arguments, **options)
            return
        request = {
            "arguments": list(map(str, asked["args"]))[2:],
            "environment": asked["env"],
            "folder": str(asked["cwd"] or Path.cwd()),
            "umask": os.umask(0o022),
        }
        os.umask(request["umask"])
        own = (asked["p2cread"], asked["c2pwrite"], asked["errwrite"])
        self._status, theirs = os.pipe()
        try:
            streams = [number if fd == -1 else fd for number, fd in enumerate(own)]
            _send(json.dumps(request).encode(), [*streams, theirs])
        finally:
            os.close(theirs)
            pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
            self._close_pipe_fds(*(asked[name] for name in pipes))  # type: ignore[attr-defined]
        self.pid = int(os.read(self._status, NUMBER))
        self._child_created = True

    def _internal_poll(self, *arguments: Any, **options: Any) -> int | None:
        if self._status is None:
            return super()._internal_poll(*arguments, **options)  # type: ignore[misc,no-any-return]
        self._look(0)
        return self.returncode

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self._status is None:
            return super()._try_wait(wait_flags)  # type: ignore[misc,no-any-return]
        self._look(0 if wait_flags & os.WNOHANG else None)
        return (0, 0)  # `returncode` is set already

    def _look(self, timeout_s: float | None) -> None:
        assert self._status is not None
        if self.returncode is None and select.select([self._status], [], [], timeout_s)[0]:
            self.returncode = int(os.read(self._status, NUMBER))
            os.close(self._status)


def _is_plain(asked: dict[str, Any]) -> bool:
    arguments, environment = asked["args"], asked["env"]
    if isinstance(arguments, (str, bytes)) or environment is None or len(arguments) < 3:
        return False
    program, flag, module = map(str, list(arguments)[:3])
    unusual = ("preexec_fn", "shell", "start_new_session", "pass_fds", "executable")
    return (
        program == sys.executable
        and flag == "-m"
        and module in FORKED
        and not environment.get("COVERAGE_PROCESS_CONFIG")
        and environment.get("PYTHONPATH") in (None, "", str(PROJECT))
        and _early(environment) == EARLY
        and not any(asked.get(name) for name in unusual)
        and not any(asked.get(name) not in (None, -1) for name in ("uid", "gid", "gids", "umask", "process_group"))
    )


# -- the process that forks -----------------------------------------------------------------------------------------

_lock = threading.Lock()
_channel: socket.socket | None = None


def _send(request: bytes, streams: list[int]) -> None:
    global _channel
    with _lock:
        if _channel is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            environment = {**os.environ, **EARLY, "COVERAGE_PROCESS_CONFIG": "", "OPENBLAS_NUM_THREADS": "1"}
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            server = subprocess.Popen(command, env=environment, cwd=PROJECT, pass_fds=[theirs.fileno()])
            theirs.close()
            _channel = ours
            atexit.register(server.wait)
            atexit.register(ours.close)  # which ends it; called first
        socket.send_fds(_channel, [request], streams)


def _serve(channel: socket.socket) -> dict[str, Any] | None:
    """Fork for each request until the channel is closed; returns in each child, with its request."""
    waiting = selectors.DefaultSelector()
    waiting.register(channel, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.data is not None:  # a child ended
                pid, report = key.data
                ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                os.write(report, b"%*d" % (NUMBER, ended))
                waiting.unregister(key.fd)
                os.close(key.fd)
                os.close(report)
                continue
            request, streams, _, _ = socket.recv_fds(channel, MOST_BYTES, 4)
            if not request:
                return None
            *standard, report = streams
            pid = os.fork()
            if pid == 0:
                for number, fd in enumerate(standard):
                    os.dup2(fd, number)
                waiting.close()
                channel.detach()
                os.closerange(3, os.sysconf("SC_OPEN_MAX"))
                return json.loads(request)  # type: ignore[no-any-return]
            os.write(report, b"%*d" % (NUMBER, pid))
            waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, report))
            for fd in standard:
                os.close(fd)


def main() -> None:
    for program in IMPORTED:
        importlib.import_module(program)
    if len(threads := list(Path("/proc/self/task").iterdir())) > 1:
        raise SystemExit(f"tests.forking: {len(threads)} threads; a program that starts one when imported is THREADED.")
    gc.collect()
    gc.freeze()  # no child copies pages only because it looked for garbage on them
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if request is None:
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.umask(request["umask"])
    os.chdir(request["folder"])
    module, *flags = request["arguments"]
    sys.argv = [module, *flags]
    for program in IMPORTED:  # runpy would warn that it executes what was imported
        sys.modules.pop(program, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
