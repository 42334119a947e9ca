"""`/health` and `/metrics` of a process, on its own local port.

`HealthServer` calls `report()` for each request, in a server thread: it returns whether the process is healthy and a
dict, which becomes the JSON body of a 200 or 503. Metrics are the process-wide Prometheus registry.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from pipeline.core.errors import WrongUse
from pipeline.core.settings import CommonSettings, load

Report = Callable[[], tuple[bool, dict[str, Any]]]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        return


class HealthServer:
    """Serves on `METRICS_HOST` in a daemon thread. Port 0: any free port; `port` is the actual one.

    Raises `WrongUse` if the port is taken.
    """

    def __init__(self, program: str, port: int, report: Report) -> None:
        self._program = program
        self._report = report
        self._metrics = make_wsgi_app()
        try:
            self._server = make_server(load(CommonSettings).metrics_host, port, self._answer, _Server, _Quiet)
        except OSError as error:
            raise WrongUse(
                f"port {port} for /health is taken ({error.strerror}); set METRICS_BASE_PORT to a free range."
            ) from None
        self.port = int(self._server.server_port)
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
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
