"""A backlog of a million trades over twenty topics: how fast it drains, and the memory of the writer."""

from __future__ import annotations

import threading
import time

from bench.environment import Child, Figures, Ground, cpu_per, say, until

TOPICS = 20
_STORED = 'writer_rows_stored_total{namespace="trades"}'
_LAST = "writer_last_commit_timestamp_seconds"


def measure(ground: Ground, count: int = 1_000_000) -> Figures:
    """Frames of five trades each. The clock starts with the writer's first commit."""
    with ground.tables() as place:
        empty = ground.cpu_seconds()["broker"]
        filler = place.start("bench.publish_trades", str(TOPICS), str(count // TOPICS), "5")
        filler.wait(600)
        published = ground.cpu_seconds()["broker"] - empty
        writer = place.start("consumers.trades", program="trades-writer")
        writer.wait_ready()
        until(lambda: writer.metric(_STORED) > 0, 60, "the writer stores nothing", writer.log, pause=0.01)
        began, before, cpu = time.time(), writer.metric(_STORED), ground.cpu_seconds()
        until(lambda: writer.metric(_STORED) >= count, 600, "the writer did not finish", writer.log, pause=0.1)
        seconds = writer.metric(_LAST) - began
        peak, spent = writer.peak_mb(), cpu_per("trade", count - before, cpu, ground.cpu_seconds())
    say(f"drain: {(count - before) / seconds:,.0f} trades/s, writer at most {peak:.0f} MB")
    return {
        "trades": count,
        "trades_per_s": (count - before) / seconds,
        "writer_peak_mb": peak,
        "broker_publish_us_per_trade": published / count * 1e6,
        **spent,
    }


def watch(children: dict[str, Child], minutes: float, stop: threading.Event) -> dict[str, list[float]]:
    """Resident memory of processes, in MB, every ten seconds."""
    seen: dict[str, list[float]] = {name: [] for name in children}
    end = time.monotonic() + minutes * 60
    while time.monotonic() < end and not stop.wait(min(10.0, minutes * 6)):
        for name, child in children.items():
            seen[name].append(child.total_resident_mb())
    return seen
