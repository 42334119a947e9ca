"""Prevents: a trade lost or doubled because a writer, the broker or the database died in the middle of flowing data.

A publisher sends the simulator's tape as frames; faults strike; afterwards tables = tape, candles = recomputed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bench.market import messages, symbol
from pipeline.broker import bootstrap
from pipeline.broker.client import Bus
from pipeline.core.settings import PROJECT, PulsarSettings, is_setting
from pipeline.services.instance import Instance
from pipeline.services.processes import wait_until
from pipeline.verify import verify
from tests.environment import UNMEASURED

pytestmark = pytest.mark.faults
PRODUCTS = 3
TRADES = 6_000  # of each product, in frames of 1 to 5


class Flow:
    """Publishes the tape of several products as frames, slowly enough to be struck in the middle."""

    def __init__(self, instance: Instance, tenant: str) -> None:
        self._stop = threading.Event()
        self._settings = PulsarSettings(
            url=instance.pulsar_url,
            admin_url=instance.pulsar_admin_url,
            token_file=instance.pulsar_token,
            tls_ca_file=instance.pulsar_certificate,
            tenant=tenant,
        )
        bootstrap.broker_when_ready(self._settings, self._stop)
        self.bus = Bus(self._settings, self._stop)
        self.expected: dict[str, dict[int, tuple[int, str, str]]] = {}
        self._frames = [list(messages(number, TRADES, 1 + number * 2)) for number in range(PRODUCTS)]
        for number, frames in enumerate(self._frames):
            self.expected[f"{symbol(number)}-USD"] = {
                t.trade_id: (t.timestamp_us, t.price, t.quantity) for f in frames for t in f.trades
            }
        self._publishers = [
            self.bus.publisher("trades", "kraken", product, "trades", "test") for product in self.expected
        ]

    def send(self, first: float, last: float) -> None:
        """Hand over the frames between two shares of the whole; returns at once, whatever the broker does."""
        for frames, publisher in zip(self._frames, self._publishers, strict=True):
            for frame in frames[int(first * len(frames)) : int(last * len(frames))]:
                assert publisher.send(frame)

    def flush(self) -> None:
        assert all(wait_until(lambda p=p: p.flush(1.0), 90) for p in self._publishers)  # type: ignore[misc]


@pytest.fixture
def flow(fault_services: Instance, tenant: str) -> Iterator[Flow]:
    made = Flow(fault_services, tenant)
    yield made
    made.bus.close()


@pytest.fixture
def start(
    fault_services: Instance, fault_database_url: str, tenant: str, python: str, tmp_path: Path
) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """`start()`: a trades writer of its own."""
    kept = {key: value for key, value in os.environ.items() if not is_setting(key)}
    environment = (
        kept
        | UNMEASURED
        | {
            "PULSAR_URL": fault_services.pulsar_url,
            "PULSAR_ADMIN_URL": fault_services.pulsar_admin_url,
            "PULSAR_TOKEN_FILE": str(fault_services.pulsar_token),
            "PULSAR_TLS_CA_FILE": str(fault_services.pulsar_certificate),
            "PULSAR_TENANT": tenant,
            "DATABASE_URL": fault_database_url,
            "METRICS_BASE_PORT": "0",
            "STATE_DIR": str(tmp_path),
            "PYTHONPATH": str(PROJECT),
        }
    )
    started: list[subprocess.Popen[bytes]] = []

    def run() -> subprocess.Popen[bytes]:
        with (tmp_path / f"writer-{len(started)}.log").open("wb") as log:
            process = subprocess.Popen([python, "-m", "consumers.trades"], env=environment, stdout=log, stderr=log)
        started.append(process)
        return process

    yield run
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


@contextmanager
def _asking(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as conn:
        yield conn


def _count(url: str) -> int:
    try:
        with _asking(url) as conn:
            row = conn.execute("SELECT coalesce(sum(rows), 0)::bigint FROM trade_coverage").fetchone()
            return int(row[0]) if row else 0
    except psycopg.Error:
        return -1


def _more_than(url: str, rows: int) -> None:
    assert wait_until(lambda: _count(url) > rows, 90), f"{_count(url)} rows stored, more than {rows} wanted"


def _as_published(url: str, flow: Flow) -> None:
    """Every trade once, with its own values; ledger and candles proven."""
    assert wait_until(lambda: _count(url) >= PRODUCTS * TRADES, 120), f"{_count(url)} of {PRODUCTS * TRADES} stored"
    with _asking(url) as conn:
        for product, expected in flow.expected.items():
            stored = conn.execute(
                "SELECT trade_id, (extract(epoch FROM ts) * 1000000)::bigint, price::text, quantity::text FROM trades"
                " JOIN instruments USING (instrument_id) WHERE product_id = %s",
                (product,),
            ).fetchall()
            assert len(stored) == len(expected), f"{product}: {len(stored)} rows of {len(expected)} trades"
            assert {row[0]: tuple(row[1:]) for row in stored} == expected
        assert [v.wrong for v in verify(conn)] == [[]] * PRODUCTS


def test_kill_of_the_writer(start: Any, flow: Flow, fault_database_url: str) -> None:
    writer = start()
    flow.send(0, 0.3)
    _more_than(fault_database_url, 0)
    flow.send(0.3, 0.6)
    writer.kill()
    flow.send(0.6, 1)
    flow.flush()
    start()
    _as_published(fault_database_url, flow)


def test_kill_of_the_broker(start: Any, flow: Flow, fault_services: Instance, fault_database_url: str) -> None:
    start()
    flow.send(0, 0.3)
    _more_than(fault_database_url, 0)
    flow.send(0.3, 0.6)
    fault_services.broker.kill()
    flow.send(0.6, 1)
    fault_services.broker.start()
    flow.flush()
    _as_published(fault_database_url, flow)


def test_kill_of_the_database(start: Any, flow: Flow, fault_services: Instance, fault_database_url: str) -> None:
    start()
    flow.send(0, 0.3)
    _more_than(fault_database_url, 0)
    flow.send(0.3, 0.6)
    fault_services.database.kill()
    flow.send(0.6, 1)
    flow.flush()
    fault_services.database.start()
    _as_published(fault_database_url, flow)


def test_two_writers_take_over_from_each_other(start: Any, flow: Flow, fault_database_url: str) -> None:
    """One of two is frozen, killed and replaced; the topics move to the other and back."""
    first, second = start(), start()
    flow.send(0, 0.3)
    _more_than(fault_database_url, 0)
    first.send_signal(signal.SIGSTOP)  # keeps its topics until the broker gives up on it, and comes back with old data
    flow.send(0.3, 0.6)
    second.kill()
    third = start()
    first.send_signal(signal.SIGCONT)
    flow.send(0.6, 0.8)
    flow.flush()
    _more_than(fault_database_url, PRODUCTS * TRADES // 2)
    first.kill()
    flow.send(0.8, 1)
    flow.flush()
    _as_published(fault_database_url, flow)
    assert third.poll() is None
