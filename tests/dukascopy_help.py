"""What the Dukascopy tests share: recordings, a writer process, loads as the user starts them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg

from pipeline.settings import PROJECT
from producers.dukascopy.limiter import FAST, START_RATE, AdaptiveLimit

RECORDINGS = PROJECT / "simulator" / "recordings" / "dukascopy"
BI5 = RECORDINGS / "bi5"


def us(text: str) -> int:
    """`2019-02-04T12` -> µs since 1970."""
    return int(datetime.fromisoformat(text + ":00" if "T" in text else text).replace(tzinfo=UTC).timestamp()) * 10**6


@contextmanager
def writer(environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m consumers.quotes` for the length of a block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "consumers.quotes"], env=dict(environment), stdout=subprocess.DEVNULL, cwd=PROJECT
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def load(environment: Mapping[str, str], *flags: str) -> subprocess.CompletedProcess[str]:
    """`python -m producers.dukascopy <flags>` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "producers.dukascopy", *flags],
        env=dict(environment), capture_output=True, text=True, timeout=100, cwd=PROJECT,
    )  # fmt: skip


class Vendor:
    """A bi5 feed on a local port that gives the hours it has by path, 404 otherwise, and notes what it was asked."""

    def __init__(self, hours: Callable[[str], bytes | None]) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.removeprefix("/")
                outer.asked.append(path)
                body = hours(path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: Any) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: Any) -> None:
                return  # a client that was killed says no goodbye

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@contextmanager
def vendor(hours: Callable[[str], bytes | None]) -> Iterator[Vendor]:
    """A `Vendor` for the length of a block."""
    started = Vendor(hours)
    try:
        yield started
    finally:
        started.server.shutdown()
        started.server.server_close()


def warm(environment: Mapping[str, str], feed: str, rate: float) -> None:
    """Bring the adaptive limit to this rate, as many good answers would: a test should not wait for that."""
    limit = AdaptiveLimit(Path(environment["STATE_DIR"]), f"dukascopy-{feed}", max_rate=rate, pause_s=0.0)
    for _ in range(int((rate - START_RATE) / FAST) + 1):
        limit.succeeded()


def rows(url: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as conn:
        return conn.execute(query, values).fetchall()  # type: ignore[arg-type]


def counts(url: str) -> dict[str, int]:
    """Stored quotes by product."""
    return dict(rows(url, "SELECT product_id, count(*) FROM quotes JOIN instruments USING (instrument_id) GROUP BY 1"))


def states(url: str, product_id: str) -> dict[str, int]:
    """Hours in the ledger by state."""
    query = (
        "SELECT state::text, count(*) FROM quote_hours JOIN instruments USING (instrument_id)"
        " WHERE product_id = %s GROUP BY 1"
    )
    return dict(rows(url, query, product_id))


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for a condition; its value. Fails when it does not come true."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.1)):
        if found := condition():
            return found
        pause.wait(0.1)
    raise AssertionError("the condition did not come true")
