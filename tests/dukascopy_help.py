"""What the Dukascopy tests share: recordings, a writer process, loads as the user starts them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from consumers.quote_hours import Hours
from consumers.tickers import Tickers
from consumers.writer import Writer
from pipeline.broker import bootstrap
from pipeline.core.settings import PROJECT, PulsarSettings
from pipeline.core.settings import load as load_settings
from producers.dukascopy.feeds import bi5
from producers.dukascopy.feeds import json as jetta
from producers.dukascopy.feeds.limiter import AdaptiveLimit
from simulator.venues.dukascopy.answers import ticks_json
from simulator.venues.dukascopy.hours import Quotes, encode_bi5

RECORDINGS = PROJECT / "simulator" / "recordings" / "dukascopy"

BI5 = RECORDINGS / "bi5"


def us(text: str) -> int:
    """`2019-02-04T12` -> µs since 1970."""
    return int(datetime.fromisoformat(text + ":00" if "T" in text else text).replace(tzinfo=UTC).timestamp()) * 10**6


@contextmanager
def writer(environment: Mapping[str, str]) -> Iterator[None]:
    """What `python -m consumers.quotes` stores, for the length of a block, in threads of this process: no test here is
    about that program (`tests/judge` runs it), and its start costs a second. Who loads beside it may ask ten times a
    second at once, unless the test has set another rate."""
    for feed in ("bi5", "json"):
        if AdaptiveLimit(Path(environment["STATE_DIR"]), f"dukascopy-{feed}", 1000.0, 0.0).rate <= 1.0:
            warm(environment, feed, 10)
    stop = threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        bootstrap.broker_when_ready(load_settings(PulsarSettings), stop)
        made = Writer("quotes-writer", [Hours(), Tickers()], stop)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            made.run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(15)
    assert not failed, failed


def load(environment: Mapping[str, str], *flags: str) -> subprocess.CompletedProcess[str]:
    """`python -m producers.dukascopy <flags>` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "producers.dukascopy", *flags],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=100,
        cwd=PROJECT,
    )


Body = bytes | None

Answers = Callable[[str], Body]


class Vendor:
    """Feeds on a local port that give what they have by path, 404 otherwise, and note what they were asked.

    `ahead_s`: of its clock before ours, as it tells in each answer. `kept_since`: a cache on the way gives what was
    answered then (as by `time.time`), and says so.
    """

    def __init__(self, answers: Answers, ahead_s: float = 0.0) -> None:
        self.asked: list[str] = []
        self.ahead_s = ahead_s
        self.kept_since: float | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body are two packets, and the second waited until the first was confirmed: 48 ms a request, so 1.
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                path = self.path.removeprefix("/")
                outer.asked.append(path)
                body = answers(path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                if outer.kept_since is not None:
                    self.send_header("Age", str(int(time.time() - outer.kept_since)))
                self.end_headers()
                self.wfile.write(body or b"")

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(int((outer.kept_since or time.time()) + outer.ahead_s))

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

    def environment(self) -> dict[str, str]:
        """Both feeds: paths begin with `bi5/` and `json/`."""
        return {"DUKASCOPY_BI5_URL": f"{self.url}/bi5", "DUKASCOPY_JSON_URL": f"{self.url}/json"}


@contextmanager
def vendor(answers: Answers, ahead_s: float = 0.0) -> Iterator[Vendor]:
    """A `Vendor` for the length of a block."""
    started = Vendor(answers, ahead_s)
    try:
        yield started
    finally:
        started.server.shutdown()
        started.server.server_close()


def made_hours(symbol: str, code: str, hours: Iterable[int], factor: int = 100_000) -> dict[str, bytes]:
    """Both feeds' answers for these hours (µs), ten quotes each and different in each, by path."""
    found = {}
    for number, hour_us in enumerate(hours):
        step = np.arange(10, dtype=np.int64)
        bid, size = 114_000 + 7 * number + step, np.full(10, 1.5)
        quotes = Quotes(step * 150_000 + number, bid + 3, bid, size, size)
        found["bi5/" + bi5.hour_path(symbol, hour_us)] = encode_bi5(quotes)
        found["json/" + jetta.hour_path(code, hour_us)] = ticks_json(quotes, hour_us // 1000, factor).encode()
    return found


def warm(environment: Mapping[str, str], feed: str, rate: float) -> None:
    """Bring the adaptive limit to this rate, as many good answers would: a test should not wait for that."""
    limit = AdaptiveLimit(Path(environment["STATE_DIR"]), f"dukascopy-{feed}", max_rate=rate, pause_s=0.0)
    while limit.rate < rate:
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


def until(condition: Callable[[], Any], seconds: float = 180.0) -> Any:
    """Wait for a condition; its value. Fails when it does not come true."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.1)):
        if found := condition():
            return found
        pause.wait(0.1)
    raise AssertionError("the condition did not come true")


BTC_HOUR = us("2023-02-20T12")


def recorded(path: str) -> bytes:
    return (RECORDINGS / path).read_bytes()
