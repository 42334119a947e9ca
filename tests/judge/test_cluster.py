"""Prevents: a trade lost or doubled when a broker, a bookie and a writer of a cluster die.

The whole run needs a minute and a half and two gigabytes: `scripts/judge --cluster`, on record in docs/scaling.md.
Here: partitioned topics, shared by two writers, on the one broker that every test has.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg

from bench.market import messages, symbol
from pipeline.broker import bootstrap
from pipeline.broker.admin import Admin
from pipeline.broker.client import Bus
from pipeline.core.settings import PulsarSettings, load
from pipeline.services.processes import wait_until
from pipeline.verify import verify

TRADES = 2000


def test_two_writers_share_partitioned_topics(
    env: Callable[..., dict[str, str]], in_env: Callable[..., None], database_url: str, python: str, tmp_path: Path
) -> None:
    """Prevents: partitions that nobody reads, or that two read."""
    in_env(PULSAR_TOPIC_PARTITIONS=3)
    settings = load(PulsarSettings)
    stop = threading.Event()
    bootstrap.broker_when_ready(settings, stop)
    bus = Bus(settings, stop)
    writers = []
    try:
        for number in range(2):
            with (tmp_path / f"{number}.log").open("wb") as log:
                command = [python, "-m", "consumers.trades"]
                made = subprocess.Popen(command, env=env(PULSAR_TOPIC_PARTITIONS=3), stdout=log, stderr=log)
            writers.append(made)
        expected = {}
        for number in range(2):
            product = f"{symbol(number)}-USD"
            publisher = bus.publisher("trades", "kraken", product, "trades", "test")
            frames = list(messages(number, TRADES, 4))
            for i, frame in enumerate(frames):
                assert publisher.send(frame, key=str(i))  # over all partitions: any order must do
            assert wait_until(lambda p=publisher: p.flush(1.0), 60)  # type: ignore[misc]
            expected[product] = {t.trade_id for frame in frames for t in frame.trades}
        topics = Admin(settings).topics(f"{settings.tenant}/trades")
        assert [len(bus.client.get_topic_partitions(topic)) for topic in topics] == [3, 3]
        with psycopg.connect(database_url, autocommit=True) as conn:

            def stored() -> dict[str, set[int]]:
                rows = conn.execute("SELECT product_id, trade_id FROM trades JOIN instruments USING (instrument_id)")
                found: dict[str, set[int]] = {product: set() for product in expected}
                for product, trade_id in rows:
                    found[product].add(trade_id)
                return found

            assert wait_until(lambda: stored() == expected, 90, 0.2), {p: len(ids) for p, ids in stored().items()}
            assert [verdict.wrong for verdict in verify(conn)] == [[], []]
    finally:
        for process in writers:
            process.kill()
            process.wait()
        bus.close()


def test_an_address_of_several_brokers_has_one_of_admin() -> None:
    """Prevents: an admin address made of a list."""
    settings = load(PulsarSettings, url="pulsar://a:6650,b:6651")
    assert settings.admin == "http://a:8080"
    assert load(PulsarSettings, url="pulsar+ssl://a:6651").admin == "https://a:8443"
