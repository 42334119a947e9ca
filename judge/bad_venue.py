"""A venue whose REST API answers with decompression bombs, endless or dripping bodies, or redirects."""

from __future__ import annotations

import gzip
import os
import random
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType

from pipeline.core.settings import PROJECT
from venues.registry import adapters

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BOMB_MB = 1024
LASTS_S = 90.0


class BadVenue:
    """Context manager: serve on 127.0.0.1; `answers` counts the requests."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.answers = 0
        piece = gzip.compress(bytes(1 << 20))
        self._bomb = piece * BOMB_MB  # gzip members follow each other: 1 GB of zeros in some 1 MB
        self._dice = random.Random(1)

    def __enter__(self) -> BadVenue:
        threading.Thread(target=self._accept, name="bad-venue", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._server.accept()
                threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        until = time.monotonic() + LASTS_S
        with suppress(OSError), peer:
            peer.recv(65536)
            self.answers += 1
            match self.answers % 5:
                case 0:
                    head = HEAD + f"Content-Encoding: gzip\r\nContent-Length: {len(self._bomb)}\r\n\r\n".encode()
                    peer.sendall(head + self._bomb)
                case 1:
                    peer.sendall(HEAD + b"\r\n[")
                    while time.monotonic() < until:
                        peer.sendall(b"[1]," * 16_384)
                case 2:
                    peer.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
                    while time.monotonic() < until:
                        peer.sendall(b" ")
                        time.sleep(0.5)
                case 3:
                    for byte in (HEAD + b"X: " + b"y" * 1000)[:400]:
                        peer.sendall(bytes([byte]))
                        time.sleep(0.25)
                case _:
                    peer.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")


def load_from(venue: BadVenue, environment: dict[str, str], peak: dict[str, int], stop: threading.Event) -> None:
    """Load history from it, once by the program of each live venue that loads; notes what they weighed, MB."""
    for name in (name for name, one in adapters().items() if one.rest is not None):
        if stop.is_set():
            return
        address = {f"{name.upper()}_REST_URL": f"http://127.0.0.1:{venue.port}"}
        program = subprocess.Popen(
            [sys.executable, "-m", f"producers.{name}", "--historical", "--last-n-days", "1"],
            env=environment | address,
            cwd=PROJECT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        killer = threading.Timer(LASTS_S, program.terminate)
        killer.start()
        _, _, used = os.wait4(program.pid, 0)
        killer.cancel()
        peak[f"load from a bad {name}"] = used.ru_maxrss // 1024
