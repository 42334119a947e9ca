"""`/health` and `/metrics` of a process, on its own local port.

`HealthServer` calls `report()` for each request, in a server thread: it returns whether the process is healthy and a
dict, which becomes the JSON body of a 200 or 503. Metrics are the process-wide Prometheus registry.

Every account of this machine can connect, and each connection takes a thread and one of the descriptors that the
program itself needs. So there are `MOST` of them, a new one in place of the oldest; and each has `REQUEST_S` to send
`HEAD_BYTES` at most, and as long to take the answer.
"""

from __future__ import annotations

import io
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import ip_address
from socketserver import ThreadingMixIn
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from pipeline.core.admission import taken
from pipeline.core.settings import CommonSettings, load

Report = Callable[[], tuple[bool, dict[str, Any]]]


MOST = 32  # the watchdog, scrapers and people need a few, for milliseconds
REQUEST_S = 5.0
HEAD_BYTES = 8_192  # a browser's request has some 1,000
OWN_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
"""`Host` of requests that are meant for this machine. A page elsewhere can make its own name lead here."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128  # 5 by default; further clients wait for a second

    def __init__(self, *args: Any) -> None:
        self._open: dict[socket.socket, None] = {}  # the oldest first
        self._lock = threading.Lock()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open[request] = None
            oldest = next(iter(self._open)) if len(self._open) > MOST else None
            if oldest is not None:
                del self._open[oldest]
        if oldest is not None:
            with suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)  # ends the read or write of its thread, which then closes it
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: the client is gone, or does not take the answer."""


class _Handler(WSGIRequestHandler):
    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(io.BytesIO(self._head()))

    def _head(self) -> bytes:
        """Return the request; nothing unless it is complete in time. A body is not read."""
        head, until = b"", time.monotonic() + REQUEST_S
        while b"\n\n" not in head.replace(b"\r", b""):
            left = until - time.monotonic()
            if left <= 0 or len(head) > HEAD_BYTES:
                return b""
            self.connection.settimeout(left)
            try:
                piece = self.connection.recv(HEAD_BYTES)
            except OSError:
                return b""
            if not piece:
                return b""
            head += piece
        self.connection.settimeout(REQUEST_S)
        return head

    def log_message(self, format: str, *args: Any) -> None:
        return


class HealthServer:
    """Serves on `METRICS_HOST` in a daemon thread. Port 0: any free port; `port` is the actual one.

    If the port is taken it raises what `admission.taken` says.
    """

    def __init__(self, program: str, port: int, report: Report) -> None:
        self._program = program
        self._report = report
        self._metrics = make_wsgi_app()
        host = load(CommonSettings).metrics_host
        self._local = ip_address(host).is_loopback
        try:
            self._server = make_server(host, port, self._answer, _Server, _Handler)
        except OSError as error:
            raise taken(
                f"port {port} for /health is taken ({error.strerror}); set METRICS_BASE_PORT to a free range."
            ) from None
        self.port = int(self._server.server_port)
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if self._local and not OWN_HOST.fullmatch(environ.get("HTTP_HOST", "localhost")):
            start("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"ask for 127.0.0.1 or localhost\n"]
        if path == "/metrics":
            return cast(Iterable[bytes], self._metrics(environ, start))
        if path == "/health":
            try:
                well, body = self._report()
            except Exception as error:  # show a failing report as such, not as a hung process
                well, body = False, {"error": f"{type(error).__name__}: {error}"}
            text = json.dumps({"program": self._program, "ok": well, **body}, default=str).encode()
            start("200 OK" if well else "503 Service Unavailable", [("Content-Type", "application/json")])
            return [text]
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [b"/health or /metrics\n"]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
