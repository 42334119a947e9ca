"""`scripts/judge --cluster`: two writers share partitioned topics while a broker, a bookie and a writer die."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from bench.market import messages, symbol
from judge.cluster import Cluster
from pipeline.broker import bootstrap
from pipeline.broker.client import Bus
from pipeline.core.settings import PROJECT, PulsarSettings, is_setting, load
from pipeline.database import query
from pipeline.database.migrate import migrate
from pipeline.services.database import Database
from pipeline.services.instance import Service
from pipeline.services.processes import free_ports, wait_until
from pipeline.verify import verify

PRODUCTS = 4
PARTITIONS = 2
TRADES = 15_000  # of each product
SECONDS = 60.0  # over which they are published
FAULTS = ((15.0, "bookie-0"), (30.0, "broker-0"), (45.0, "writer"))


def run(say: Callable[[str], None]) -> list[str]:
    """Return what is wrong; empty if every trade is stored exactly once."""
    folder = Path(tempfile.mkdtemp(prefix="cluster-"))
    database = Service(Database(folder / "database", free_ports(1)[0], "256m", durable=True), die_with_parent=True)
    database.what.folder.mkdir()
    cluster = Cluster(folder)
    writers: list[subprocess.Popen[bytes]] = []
    try:
        began = time.monotonic()
        database.start(wait=False)
        cluster.start()
        database.wait_ready()
        say(f"cluster up after {time.monotonic() - began:.0f} s: {', '.join(cluster.processes)}")
        assert isinstance(database.what, Database)
        url = database.what.url()
        with psycopg.connect(url, autocommit=True) as conn:
            migrate(conn)
        settings = load(
            PulsarSettings,
            url=cluster.pulsar_url,
            admin_url=cluster.admin_url(1),
            tenant="cluster",
            topic_partitions=PARTITIONS,
        )
        stop = threading.Event()
        bootstrap.broker_when_ready(settings, stop)
        writers += [_writer(settings, url, folder) for _ in range(2)]
        bus = Bus(settings, stop)
        expected = _flow(bus, cluster, writers, say)
        wrong = _compare(url, expected, say)
        bus.close()
        return wrong
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
        cluster.close()
        database.kill()
        database.end_leftovers()
        shutil.rmtree(folder, ignore_errors=True)


def _writer(settings: PulsarSettings, url: str, folder: Path) -> subprocess.Popen[bytes]:
    kept = {key: value for key, value in os.environ.items() if not is_setting(key)}
    environment = kept | {
        "PULSAR_URL": settings.service_url,
        "PULSAR_ADMIN_URL": settings.admin,
        "PULSAR_TENANT": settings.tenant,
        "PULSAR_TOPIC_PARTITIONS": str(PARTITIONS),
        "DATABASE_URL": url,
        "METRICS_BASE_PORT": "0",
        "ENV_FILE": os.devnull,
        "PYTHONPATH": str(PROJECT),
    }
    with (folder / "writers.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "consumers.trades"], env=environment, stdout=log, stderr=log)


def _flow(
    bus: Bus, cluster: Cluster, writers: list[subprocess.Popen[bytes]], say: Callable[[str], None]
) -> dict[str, dict[int, tuple[Any, ...]]]:
    """Publish at a steady rate, kill processes, and wait until the broker has confirmed everything."""
    frames = {f"{symbol(n)}-USD": list(messages(n, TRADES, 5)) for n in range(PRODUCTS)}
    publishers = {p: bus.publisher("trades", "kraken", p, "trades", "cluster") for p in frames}
    left, began, sent = list(FAULTS), time.monotonic(), 0
    total = TRADES // 5
    slowest, last, confirmed = 0.0, began, 0
    while sent < total or any(p.pending for p in publishers.values()):
        now = time.monotonic()
        due = min(total, int((now - began) / SECONDS * total))
        for product, publisher in publishers.items():
            for frame in frames[product][sent:due]:
                assert publisher.send(frame, key=product)
        sent = max(sent, due)
        if (have := sum(p.confirmed for p in publishers.values())) != confirmed or not any(
            p.pending for p in publishers.values()
        ):
            slowest, last, confirmed = max(slowest, now - last), now, have
        if left and left[0][0] <= now - began:
            victim = left.pop(0)[1]
            say(f"{now - began:5.1f} s  kill -9 of {victim}")
            if victim == "writer":
                writers[0].kill()
            else:
                cluster.kill(victim)
        if now - began > SECONDS + 180:
            break
        time.sleep(0.02)
    confirmed = sum(p.confirmed for p in publishers.values())
    say(f"{confirmed:,} messages confirmed; the longest time without a confirmation was {slowest:.1f} s")
    return {
        product: {t.trade_id: (t.timestamp_us, t.price, t.quantity) for frame in made for t in frame.trades}
        for product, made in frames.items()
    }


def _compare(url: str, expected: dict[str, dict[int, tuple[Any, ...]]], say: Callable[[str], None]) -> list[str]:
    began = time.monotonic()
    total = sum(map(len, expected.values()))
    with psycopg.connect(url, autocommit=True) as conn:

        def stored() -> int:
            return int(query.scalar(conn, "SELECT coalesce(sum(rows), 0)::bigint FROM trade_coverage"))

        wait_until(lambda: stored() >= total, 120, 0.2)
        wrong = [] if stored() == total else [f"{stored():,} trades of {total:,} stored"]
        for product, truth in expected.items():
            rows = conn.execute(
                "SELECT trade_id, (extract(epoch FROM ts) * 1000000)::bigint, price::text, quantity::text FROM trades"
                " JOIN instruments USING (instrument_id) WHERE product_id = %s",
                (product,),
            ).fetchall()
            if len(rows) != len(truth) or {trade_id: tuple(trade) for trade_id, *trade in rows} != truth:
                wrong.append(f"{product}: {len(rows)} rows, {len(truth)} trades published, and they differ")
        wrong += [text for verdict in verify(conn) for text in verdict.wrong]
    say(f"{total:,} trades compared, {time.monotonic() - began:.1f} s after the last was confirmed")
    return wrong


def main() -> int:
    wrong = run(lambda text: print(text, flush=True))
    print(json.dumps(wrong) if wrong else "kept: every trade once, candles and ledger true", flush=True)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
