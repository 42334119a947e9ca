"""Live: the simulated exchanges send 1,000 frames a second; how long from receiving a frame until its rows are visible?

Without triggers: `received_at_us` of each message is compared with the moment at which a reader of the tables first
sees its trades. The reader polls the ledger every millisecond, so figures are at most that much too high.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pulsar

from bench.drain import watch
from bench.environment import Child, Figures, Ground, Place, cpu_per, delays_of, say, until
from schemas.records import TradesMessage, decode_as
from simulator.testing import Simulator, running_simulator
from venues.adapter import Proof
from venues.registry import adapters

POLL_S = 0.001
WARM_UP_S = 5.0
# Those that stream without an account; their ids are those of the tape.
VENUES = tuple(name for name, one in adapters().items() if one.proof is Proof.IDS)
_UPPER = """
    SELECT i.venue, i.product_id, upper(c.ids) - 1 FROM trade_coverage c JOIN instruments i USING (instrument_id)
    WHERE NOT isempty(c.ids)
"""


@dataclass
class Seen:
    """Per product: highest stored id against the clock, in rising order."""

    ids: list[int] = field(default_factory=list)
    at_us: list[int] = field(default_factory=list)


def _poll(place: Place, seen: dict[str, Seen], stop: threading.Event, session: list[int]) -> None:
    with place.connect() as conn:
        session.append(conn.info.backend_pid)
        while not stop.is_set():
            rows = conn.execute(_UPPER).fetchall()
            now = time.time_ns() // 1000
            for venue, product, upper in rows:
                one = seen.setdefault(f"{venue}.{product.lower()}", Seen())
                if not one.ids or upper > one.ids[-1]:
                    one.ids.append(upper)
                    one.at_us.append(now)
            stop.wait(POLL_S)


def frames_of(place: Place, names: list[str]) -> dict[str, list[tuple[int, int]]]:
    """Return (received_at_us, highest id) of every live frame, per product, from the topics."""
    client = place.ground.instance.pulsar_client()
    found: dict[str, list[tuple[int, int]]] = {}
    try:
        for name in names:
            reader = client.create_reader(f"persistent://{place.tenant}/trades/{name}", pulsar.MessageId.earliest)
            frames = found.setdefault(name, [])
            while reader.has_message_available():
                message = decode_as(TradesMessage, reader.read_next(timeout_millis=10_000).data())
                if message.origin == "live" and message.trades:
                    frames.append((message.received_at_us, max(t.trade_id for t in message.trades)))
            reader.close()
    finally:
        client.close()
    return found


def start(place: Place, simulator: Simulator, venues: tuple[str, ...] = ("kraken",)) -> dict[str, Child]:
    """The live part of the pipeline against a simulator."""
    settings = simulator.environment()
    for venue in VENUES:
        products = [p.symbol for p in simulator.config.products_of(venue)]
        settings |= {f"{venue.upper()}_PRODUCT_IDS": ",".join(products), f"{venue.upper()}_ENABLED": "true"}
    children = {
        "trades-writer": place.start("consumers.trades", program="trades-writer", **settings),
        "quotes-writer": place.start("consumers.quotes", program="quotes-writer", **settings),
    }
    for child in children.values():
        child.wait_ready()
    for venue in venues:
        children[venue] = place.start(f"producers.{venue}", program=venue, **settings)
        children[venue].wait_ready()
    return children


def measure(ground: Ground, seconds: float = 60.0, frames_per_s: float = 1000.0) -> Figures:
    """p50, p99, p99.9 and the slowest, in ms, of every live frame after the warm-up."""
    with running_simulator(load_frames_per_s=frames_per_s) as simulator, ground.tables() as place:
        start(place, simulator)
        seen: dict[str, Seen] = {}
        stop = threading.Event()
        session: list[int] = []  # of the poller, which is not part of the pipeline
        poller = threading.Thread(target=_poll, args=(place, seen, stop, session), daemon=True)
        poller.start()
        until(lambda: len(seen) >= 10, 60, "not all products arrived")
        time.sleep(WARM_UP_S)
        began_us, before = time.time_ns() // 1000, ground.cpu_seconds(*session)
        time.sleep(seconds)
        ended_us, after = time.time_ns() // 1000, ground.cpu_seconds(*session)
        time.sleep(2)
        stop.set()
        poller.join()
        frames = frames_of(place, list(seen))
    delays: list[float] = []
    for name, one in seen.items():
        chosen = [f for f in frames[name] if began_us <= f[0] < ended_us]
        at = np.searchsorted(np.array(one.ids), [f[1] for f in chosen])
        if len(at) and at.max() >= len(one.ids):
            raise RuntimeError(f"trades of {name} were not stored")
        delays += [(one.at_us[i] - f[0]) / 1000 for i, f in zip(at, chosen, strict=True)]
    rate, p50, p99, p999, most = delays_of("live", delays, seconds)
    cpu = cpu_per("frame", len(delays), before, after)
    return {"frames_per_s": rate, "p50_ms": p50, "p99_ms": p99, "p999_ms": p999, "max_ms": most, **cpu}


def soak(ground: Ground, minutes: float = 60.0, frames_per_s: float = 500.0) -> Figures:
    """Resident memory of every process over a while of live data on all venues."""
    with running_simulator(load_frames_per_s=frames_per_s / len(VENUES)) as simulator, ground.tables() as place:
        children = start(place, simulator, VENUES)
        seen = watch(children, minutes, threading.Event())
    figures: Figures = {"minutes": minutes}
    for name, values in seen.items():
        early = values[min(len(values) - 1, 60 if minutes >= 20 else len(values) // 3)]  # minute 10 of a long one
        figures[f"{name.replace('-', '_')}_mb"] = max(values)
        figures[f"{name.replace('-', '_')}_growth_mb"] = values[-1] - early
        say(f"soak: {name} at most {max(values):.0f} MB, grew by {values[-1] - early:+.1f} MB")
    return figures
