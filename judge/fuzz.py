"""`scripts/fuzz [--minutes N --seed S]`: all hostile inputs at once, at every interface, while the pipeline works.

Hostile messages on every topic, messages that decompress from kilobytes to 60 MB, messages of thousands of bad rows,
half-open requests at every port, and a venue whose REST bodies are bombs, endless or dripping. Afterwards it reports
the peak memory of every program, and whether everything else was stored.
"""

from __future__ import annotations

import random
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pulsar

import schemas
from judge import hostile
from judge.bad_venue import BadVenue, load_from
from judge.check import Verdict, first_ids, judge
from judge.inject import Striker
from judge.schedule import TRADING, VENUES, products_of
from judge.testbed import Stage
from pipeline.core.programs import BY_NAME
from pipeline.core.runtime import Stop, now_us
from simulator.testing import running_simulator
from simulator.venues import listings

SYMBOLS = {
    venue: tuple(one.upper().replace("-", listings()[venue].separator) for one in products_of(venue)[:2])
    for venue in VENUES
}
TOPICS = (
    f"trades/{TRADING[0]}.btc-usd",
    f"trades/{TRADING[-1]}.eth-usd",
    f"tickers/{TRADING[0]}.eth-usd",
    "quotes/dukascopy.eur-usd",
    "control/heads",
    "control/gaps",
)
BATCH = 50
HALF_OPEN = 300
SWOLLEN = 60_000_000
ROWS = 20_000  # bad ones of one message, some 0.9 MB
# Above what the settings allow a writer: the limit is of data, and the interpreter and its libraries come on top.
MOST_MB = 1_400
START_S, SETTLE_S = 600.0, 300.0


def say(text: str) -> None:
    print(text, flush=True)


class Weights(threading.Thread):
    """Peak resident memory of every program in MB, by name; restarts included."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(name="weights", daemon=True)
        self._stage, self._over = stage, threading.Event()
        self.peak: dict[str, int] = {}
        self.starts: dict[str, set[int]] = {}

    def run(self) -> None:
        while not self._over.wait(1.0):
            for state in self._stage.states():
                if state["statename"] == "RUNNING" and state["name"] not in ("broker", "database"):
                    name, pid = str(state["name"]), int(state["pid"])
                    self.starts.setdefault(name, set()).add(pid)
                    self.peak[name] = max(self.peak.get(name, 0), _peak_mb(pid))

    def close(self) -> None:
        self._over.set()
        self.join(10)


def _peak_mb(pid: int) -> int:
    with suppress(OSError, IndexError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    return 0


class Doors:
    """Sends hostile inputs and counts them. Every method returns by itself and may fail: the broker may refuse it."""

    def __init__(self, stage: Stage, dice: random.Random, striker: Striker) -> None:
        self._stage, self._dice, self._striker = stage, dice, striker
        self.counts = dict.fromkeys(("hostile messages", "swollen messages", "bad rows", "half-open requests"), 0)
        self._open: list[socket.socket] = []

    def _send(self, topic: str, schema: str, payloads: list[bytes], **options: Any) -> int:
        client = self._stage.client()
        full = f"persistent://{self._stage.tenant}/{topic}"
        try:
            producer = client.create_producer(
                full, schema=schemas.registered(schema), send_timeout_millis=5000, batching_enabled=False, **options
            )
            for payload in payloads:
                sent = producer.send(payload)
                self._striker.hostile.add((sent.ledger_id(), sent.entry_id()))
            return len(payloads)
        except pulsar.PulsarException:
            self._striker.hostile_topics.add(full)
            return 0
        finally:
            client.close()

    def messages(self) -> None:
        """Send a batch of hostile messages to one of the topics."""
        topic = self._dice.choice(TOPICS)
        venue, _, product = topic.rpartition("/")[2].partition(".")
        newest = self._stage.newest_id(venue, product.upper())
        made = hostile.messages(self._dice.randrange(1 << 30), topic, BATCH, now_us(), newest)
        self.counts["hostile messages"] += self._send(topic, made[0].schema, [one.payload for one in made])

    def swollen(self) -> None:
        """Send some kilobytes that decompress to 60 MB of zeros."""
        topic = self._dice.choice(TOPICS[:4])
        schema = hostile.SCHEMA_OF[topic.split("/")[0]]
        kind = self._dice.choice((pulsar.CompressionType.ZSTD, pulsar.CompressionType.LZ4))
        self.counts["swollen messages"] += self._send(topic, schema, [bytes(SWOLLEN)], compression_type=kind)

    def bad_rows(self) -> None:
        """Send one message of trades that cannot be stored."""
        row = {"trade_id": 1, "timestamp_us": now_us(), "price": "-1", "quantity": "1", "taker_side": "buy"}
        record = {
            "venue": TRADING[0],
            "product_id": "BTC-USD",
            "asset_class": "crypto",
            "origin": "live",
            "received_at_us": now_us(),
            "trades": [row] * ROWS,
            "holes": [],
        }
        self.counts["bad rows"] += ROWS * self._send(TOPICS[0], "trades", [schemas.encode("trades", record)])

    def half_open(self) -> None:
        """Begin requests and never finish them, at the dashboard and at every program's port."""
        ports = [self._stage.dashboard_port, *(self._stage.metrics_base + p.offset for p in BY_NAME.values())]
        for one in self._open:
            one.close()
        self._open.clear()
        for number in range(HALF_OPEN):
            with suppress(OSError):
                peer = socket.create_connection(("127.0.0.1", ports[number % len(ports)]), timeout=1)
                peer.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
                self._open.append(peer)
                self.counts["half-open requests"] += 1

    def close(self) -> None:
        for one in self._open:
            one.close()


@click.command()
@click.option("--minutes", default=3.0, show_default=True, help="Duration.")
@click.option("--seed", type=int, help="[random; it is printed]")
@click.option("--keep", is_flag=True, help="Keep logs and data if something is wrong.")
def main(minutes: float, seed: int | None, keep: bool) -> None:
    """Send all hostile inputs at once. The exit code is 0 if every program stayed within its limits and
    everything else was stored, otherwise 1."""
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    dice, stop = random.Random(seed), Stop().listen()
    products = {venue: [{"symbol": s, "rate": 5.0} for s in symbols] for venue, symbols in SYMBOLS.items()}
    with running_simulator(seed=seed, products=products, clock_offset_s=-3600.0) as simulator, BadVenue() as venue:
        stage = Stage(simulator, 30.0)
        well = False
        try:
            stage.start()
            stage.wait_up(START_S)
            say(f"seed {seed}; log {stage.log}")
            first = first_ids(stage)
            striker = Striker(stage, say)
            weights, doors = Weights(stage), Doors(stage, dice, striker)
            weights.start()
            loads = threading.Thread(target=load_from, args=(venue, stage.environment, weights.peak, stop), daemon=True)
            loads.start()
            _throw(doors, dice, minutes * 60, stage, stop)
            doors.close()
            loads.join(120)
            verdict = judge(stage, first, simulator.now(), striker, SETTLE_S)
            weights.close()
            well = _print_verdict(verdict, weights, doors, venue)
        finally:
            stage.close(keep=keep and not well)
    sys.exit(0 if well else 1)


def _throw(doors: Doors, dice: random.Random, seconds: float, stage: Stage, stop: threading.Event) -> None:
    ways: list[Callable[[], None]] = [doors.messages] * 12 + [doors.swollen, doors.bad_rows, doors.half_open]
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stop.wait(0.2):
        dice.choice(ways)()
        stage.revive()


def _print_verdict(verdict: Verdict, weights: Weights, doors: Doors, venue: BadVenue) -> bool:
    thrown = doors.counts | {"bad answers of a venue": venue.answers}
    say("thrown: " + ", ".join(f"{count:,} {what}" for what, count in thrown.items()))
    say(
        "peak memory, MB (processes): "
        + ", ".join(
            f"{name} {peak} ({len(weights.starts.get(name, {0}))})" for name, peak in sorted(weights.peak.items())
        )
    )
    say(f"{verdict.trades:,} trades compared with the tape, {verdict.quotes:,} quotes, {verdict.letters:,} letters")
    wrong = [*verdict.differences, *(f"{n} took {mb} MB" for n, mb in weights.peak.items() if mb > MOST_MB)]
    for text in wrong[:20]:
        say(f"  {text}")
    say("kept: every program within its limit, everything else stored" if not wrong else "NOT KEPT")
    return not wrong


if __name__ == "__main__":
    main()
