"""A backlog of a million trades over twenty topics: how fast it drains, and the memory of the writer."""

from __future__ import annotations

import threading
import time
from collections import Counter

from bench.environment import Child, Figures, Ground, cpu_per, say, until

TOPICS = 20
_STORED = 'writer_rows_stored_total{namespace="trades"}'
_WAITS = """
    SELECT coalesce(wait_event, 'running') FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()
"""
_LAST = "writer_last_commit_timestamp_seconds"


def measure(ground: Ground, count: int = 1_000_000) -> Figures:
    """Frames of five trades each. The clock starts with the writer's first commit."""
    figures, _ = drain(ground, count, 1)
    say(f"drain: {figures['trades_per_s']:,.0f} trades/s, writer at most {figures['writer_peak_mb']:.0f} MB")
    return figures


def several(ground: Ground, count: int = 1_000_000) -> Figures:
    """The same backlog by 1, 2 and 4 writers, and what the database's busy sessions waited for."""
    found: Figures = {}
    for writers in (1, 2, 4):
        figures, waits = drain(ground, count, writers)
        shares = {name: seen / waits.total() for name, seen in waits.most_common(5)}
        told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        say(f"writers: {writers} store {figures['trades_per_s']:,.0f} trades/s; of a session's time: {told}")
        found |= {f"{name}_{writers}": value for name, value in figures.items() if name != "trades"}
        found |= {f"{name}_share_{writers}": share for name, share in shares.items()}
    return found


def drain(ground: Ground, count: int, writers: int) -> tuple[Figures, Counter[str]]:
    """Let `writers` processes store a backlog. Also returns for what their sessions waited, and how often, each
    looked at while a statement ran; one that did not wait is `running`."""
    with ground.tables() as place:
        empty = ground.cpu_seconds()["broker"]
        filler = place.start("bench.publish_trades", str(TOPICS), str(count // TOPICS), "5")
        filler.wait(600)
        published = ground.cpu_seconds()["broker"] - empty
        running = [place.start("consumers.trades", program="trades-writer") for _ in range(writers)]

        def stored() -> float:
            return sum(one.metric(_STORED) for one in running)

        for one in running:
            one.wait_ready()
        until(lambda: stored() > 0, 60, "the writer stores nothing", running[0].log, pause=0.01)
        began, before, cpu = time.time(), stored(), ground.cpu_seconds()
        waits: Counter[str] = Counter()
        with place.connect() as conn:

            def finished() -> bool:
                waits.update(name for (name,) in conn.execute(_WAITS))
                return stored() >= count

            until(finished, 600, "rows are missing", running[0].log, pause=0.1)
        seconds = max(one.metric(_LAST) for one in running) - began
        peak, spent = max(one.peak_mb() for one in running), cpu_per("trade", count - before, cpu, ground.cpu_seconds())
    figures: Figures = {
        "trades": count,
        "trades_per_s": (count - before) / seconds,
        "writer_peak_mb": peak,
        "broker_publish_us_per_trade": published / count * 1e6,
        **spent,
    }
    return figures, waits


def watch(children: dict[str, Child], minutes: float, stop: threading.Event) -> dict[str, list[float]]:
    """Resident memory of processes, in MB, every ten seconds."""
    seen: dict[str, list[float]] = {name: [] for name in children}
    end = time.monotonic() + minutes * 60
    while time.monotonic() < end and not stop.wait(min(10.0, minutes * 6)):
        for name, child in children.items():
            seen[name].append(child.total_resident_mb())
    return seen
