"""A message that unpacks to more than a writer may use ends it twice, not the machine, and is then set aside."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pulsar

import schemas
from consumers.limits import SCOUT_AFTER, CrashCount
from consumers.subscription import SUBSCRIPTION
from pipeline.broker.admin import Admin
from pipeline.broker.client import Bus
from pipeline.broker.topics import full_name
from tests.messages import trade, trades_record
from tests.writer_help import Raw, until

LIMIT_MB = 400  # an idle writer has 200 MB of data, most of it the stacks of its threads
BOMB_BYTES = 300_000_000  # 1.2 MB on its way


def test_bombs_end_the_writer_twice_and_are_set_aside(
    bus: Bus, env: Callable[..., dict[str, str]], database_url: str, python: str, tmp_path: Path
) -> None:
    """Prevents 4 GB for a message of some kB, and a writer that dies of the same message for ever."""
    publish = {
        product: bus.publisher("trades", "kraken", product, "trades", "test") for product in ("BTC-USD", "ETH-USD")
    }

    def send(product: str, number: int) -> None:
        publish[product].send(trades_record([trade(number)], product=product))
        assert publish[product].flush(30)

    topic = publish["BTC-USD"].topic
    send("BTC-USD", 1)
    bombs = bus.client.create_producer(
        topic, schema=Raw("trades"), compression_type=pulsar.CompressionType.LZ4, batching_enabled=False
    )
    for _ in range(2):
        bombs.send(bytes(BOMB_BYTES))
        bombs.send(schemas.encode("trades", trades_record([trade(2)])))
    send("BTC-USD", 3)
    send("ETH-USD", 4)
    deaths = 0

    def stored() -> Any:
        with psycopg.connect(database_url) as conn:
            return conn.execute("SELECT array_agg(trade_id::int ORDER BY trade_id) FROM trades").fetchone()

    with (tmp_path / "log").open("wb") as log:

        def start() -> subprocess.Popen[bytes]:
            command, environment = [python, "-m", "consumers.trades"], env(LIMITS_WRITER_MEMORY_MB=LIMIT_MB)
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

        writer = start()

        def done() -> bool:
            nonlocal writer, deaths
            if writer.poll() is not None:  # as supervisord does
                deaths += 1
                assert deaths <= SCOUT_AFTER, (tmp_path / "log").read_text()[-3000:]
                writer = start()
            return bool(stored() == ([1, 2, 3, 4],))

        try:
            until(done, 180)
            until(lambda: Admin(bus.settings).backlog(topic, SUBSCRIPTION).messages == 0)
        finally:
            writer.terminate()
            assert writer.wait(30) == 0
    assert deaths == SCOUT_AFTER
    letters = bus.client.create_reader(
        full_name(bus.settings.tenant, "dead-letters", "trades-writer"),
        pulsar.MessageId.earliest,
        schema=schemas.registered("dead_letter"),
    )
    found = []
    while letters.has_message_available():
        found.append(letters.read_next(5000).value())
    assert [letter["reason"] for letter in found] == ["memory", "memory"]
    assert CrashCount(tmp_path / "state", "trades-writer").deaths == 0, "an orderly end is remembered as a death"


def test_deaths_in_a_row_are_counted_and_an_orderly_end_is_none(tmp_path: Path, python: str) -> None:
    """Prevents a writer that is careful for ever, and one that never learns. Other writers that live do not count."""
    program = (
        "import sys, os, pathlib; from consumers.limits import CrashCount;"
        f"life = CrashCount(pathlib.Path({str(tmp_path)!r}), 'trades-writer'); print(life.deaths);"
        "life.clear() if sys.argv[1] == 'end' else os._exit(9)"
    )

    def life(how: str) -> int:
        return int(subprocess.run([python, "-c", program, how], capture_output=True, text=True).stdout)

    living = CrashCount(tmp_path, "trades-writer")
    assert [life(how) for how in ("die", "die", "end", "end", "die", "end")] == [0, 1, 2, 0, 0, 1]
    living.clear()
