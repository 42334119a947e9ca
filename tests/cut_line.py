"""A line to a service that a test can cut or freeze: what is between is a real network, its ends are the real ones."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class CutLine:
    """Forwards 127.0.0.1:`port` to `target`. `freeze`: nothing passes, nothing is refused. `cut`: nobody is there."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._flows = threading.Event()
        self._flows.set()
        self._cut = False
        self._open: set[socket.socket] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        self._flows.clear()

    def cut(self) -> None:
        self._cut = True
        self._flows.set()
        for line in list(self._open):
            with suppress(OSError):  # closed meanwhile
                line.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._cut = False
        self._flows.set()

    def close(self) -> None:
        self.cut()
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the server is closed
            while True:
                near, _ = self._server.accept()
                if self._cut:
                    near.close()
                    continue
                far = socket.create_connection(self._target)
                self._open |= {near, far}
                if self._cut:  # meanwhile: `cut` may not have seen these two
                    self.cut()
                for one, two in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(one, two), daemon=True).start()

    def _pump(self, one: socket.socket, two: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                self._flows.wait()
                two.sendall(data)
        for line in (one, two):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        self._open -= {one, two}
        one.close()
