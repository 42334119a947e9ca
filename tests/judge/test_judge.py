"""Prevents: faults that lose, double or corrupt what is stored; a judge that would not notice.

The long version is `scripts/judge`; its record is in docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import schemas
from judge import hostile, schedule
from judge.claims import Claims
from judge.inject import Striker
from judge.proxy import Proxy
from judge.truth import Truth
from pipeline.core.settings import PROJECT
from simulator.testing import running_simulator
from tests.environment import UNMEASURED

KEY = ("kraken", "BTC-USD")


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_short_run_of_the_whole_pipeline(python: str, tmp_path: Path) -> None:
    """How soon it settles is not asked here: the machine may be busy with other tests."""
    report = tmp_path / "report.json"
    command = [python, "-m", "judge", "--minutes", "0.5", "--seed", "7", "--faults", "6", "--longest", "6"]
    command += ["--settle", "400", "--report", str(report)]
    environment = os.environ | UNMEASURED
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, env=environment, timeout=1190)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    told = json.loads(report.read_text())
    assert told["differences"] == []
    assert told["trades"] > 0
    assert told["quotes"] == told["archived_quotes"] == 136_741 + 14_716
    assert told["archived_trades"] > 0
    assert told["claims_on_archived_days"] > 0
    assert told["lies"] == []
    assert set(told["claims"]) >= {"completeness", "status", "dashboard", "gap-filler"}


def test_a_seed_gives_one_plan_which_can_be_replayed() -> None:
    """Prevents: a counter-example that cannot be struck again."""
    made = schedule.make(5, 600.0, 300, disk=True, longest_s=120.0)
    assert made == schedule.make(5, 600.0, 300, disk=True, longest_s=120.0)
    assert made != schedule.make(6, 600.0, 300, disk=True, longest_s=120.0)
    written = json.loads(json.dumps(schedule.as_json(5, 600.0, made)))
    assert schedule.from_json(written) == (5, 600.0, made)


def test_every_kind_of_fault_strikes() -> None:
    made = schedule.make(5, 600.0, 600, disk=True, longest_s=120.0)
    assert {fault.kind for fault in made} == set(schedule.KINDS) - (set() if schedule.IGNORING else {"ignore"})
    assert not [
        fault for fault in schedule.make(5, 600.0, 300, disk=False, longest_s=120.0) if fault.kind == "disk_full"
    ]
    without = schedule.make(5, 600.0, 300, disk=True, longest_s=120.0, without=("hostile", "restore"))
    assert not {"hostile", "restore"} & {fault.kind for fault in without}
    # the tape begins an hour ago: jumps past the machine's clock would make its trades impossible
    assert sum(fault.options["jump"] for fault in made if fault.kind == "clock") <= schedule.LONGEST_JUMPS_S
    assert all(hasattr(Striker, f"_{kind}") for kind in schedule.KINDS)


@pytest.mark.parametrize("topic", schedule.TOPICS)
def test_hostile_messages_are_valid_to_the_broker_and_follow_from_the_seed(topic: str) -> None:
    """Prevents: a hostile message that is a likely trade, which would be stored and differ from the tape; one that
    cannot be sent; a plan that cannot be struck again."""
    now_us = 1_795_000_000_000_000
    for seed in range(10):
        made = hostile.messages(seed, topic, 3, now_us, 5000)
        assert made == hostile.messages(seed, topic, 3, now_us, 5000)
        for message in made:
            assert len(message.payload) < 5_000_000
            if message.about != "a record":
                continue
            record = schemas.decode(message.schema, message.payload)
            for row in record.get("trades", []):
                sane_id = 0 <= row["trade_id"] < 1 << 62
                sane_time = now_us - 86_400_000_000 < row["timestamp_us"] < now_us + 30 * 86_400_000_000
                assert not (sane_id and sane_time and row["price"] == row["quantity"] == "1")


@pytest.fixture
def tape_stored(database_url: str) -> Iterator[tuple[Truth, Claims, Any, int]]:
    """A tape, a table `trades` with a stretch of it (through what a writer uses), and the detector's judgement."""
    products = {"kraken": [{"symbol": "BTC/USD", "rate": 50.0}], "coinbase": []}
    with running_simulator(seed=3, products=products) as simulator, psycopg.connect(database_url, autocommit=True) as c:
        simulator.fault("hole", "kraken", count=2)
        newest = simulator.now()[KEY]
        first = newest - 50
        c.execute("INSERT INTO instruments (venue, product_id, asset_class) VALUES ('kraken', 'BTC-USD', 'crypto')")
        truth = Truth(simulator, database_url, {KEY: first}, older_s=0.0)
        truth.sample()
        for row in simulator.truth("kraken", "BTC-USD", first, truth.old_id(KEY, time.monotonic())):
            c.execute(
                "INSERT INTO trades (instrument_id, trade_id, ts, price, quantity, taker_side, origin)"
                " SELECT instrument_id, %s, now(), 1, 1, 'buy', 'live' FROM instruments",
                (row["id"],),
            )
        yield truth, Claims(truth), c, first


def test_a_false_claim_is_caught_and_a_true_one_is_not(tape_stored: tuple[Truth, Claims, Any, int]) -> None:
    """Prevents: a lie detector that never finds a lie, or calls the truth one."""
    truth, claims, conn, first = tape_stored
    now_s = time.monotonic()
    zero = {"ok": True, "instruments": [{"venue": "kraken", "product_id": "BTC-USD", "kind": "trades", "missing": 0}]}
    fine = [{"name": "kraken", "state": "ok"}, {"name": "load", "state": "done"}]
    claims.state("status", zero, now_s, [KEY])
    claims.complete("completeness", "0 missing", [KEY], now_s)
    claims.health(fine, now_s, [KEY])
    claims.gap_filler(True, {"open_ids": {}, "ledger_read_age_s": 0.0}, now_s, [KEY])
    assert claims.lies == []
    assert claims.checked == {"status": 2, "completeness": 1, "health": 1, "gap-filler": 1}
    conn.execute("DELETE FROM trades WHERE trade_id = %s", (first + 5,))
    truth.forget()
    claims.state("status", zero | {"ok": False}, now_s, [KEY])
    claims.complete("completeness", "0 missing", [KEY], now_s)
    claims.health(fine, now_s, [KEY])
    claims.gap_filler(True, {"open_ids": {}, "ledger_read_age_s": 0.0}, now_s + 1, [KEY])
    assert [lie.who for lie in claims.lies] == ["status", "completeness", "health", "gap-filler"]
    assert all(str(first + 5) in lie.truth for lie in claims.lies)
    claims.state("status", zero | {"ok": False}, now_s, [KEY])
    assert (len(claims.lies), claims.told) == (4, 5), "one that goes on is told once and counted each time"
    # what admits that something is missing, or that it does not know, claims nothing
    before = dict(claims.checked)
    for admitted in (1, None):
        told = [zero["instruments"][0] | {"missing": admitted}]  # type: ignore[index]
        claims.state("status", {"ok": False, "instruments": told}, now_s, [KEY])
    claims.health([{"name": "kraken", "state": "unwell"}], now_s, [KEY])
    claims.gap_filler(True, {"open_ids": {"kraken BTC-USD": 1}}, now_s, [KEY])
    claims.gap_filler(False, {"open_ids": {}}, now_s, [KEY])
    assert claims.checked == before


def test_young_trades_and_those_before_our_time_are_no_lie(tape_stored: tuple[Truth, Claims, Any, int]) -> None:
    """Prevents: a detector that demands what nobody promised."""
    truth, claims, conn, _ = tape_stored
    conn.execute("DELETE FROM trades")
    truth.forget()
    moment_s = time.monotonic()
    claims.complete("completeness", "0 missing", [KEY], moment_s - 3600)
    assert claims.lies == []
    claims.complete("completeness", "0 missing", [KEY], moment_s)
    assert len(claims.lies) == 1


def test_an_explanation_for_what_the_tape_has_is_caught(tape_stored: tuple[Truth, Claims, Any, int]) -> None:
    """Prevents: ids that are explained away, which no count of missing ids would ever show."""
    truth, claims, _, first = tape_stored
    ((low, high),) = truth.holes[KEY]
    claims.explained(
        [("kraken", "BTC-USD", low, high, "venue_has_none"), ("kraken", "BTC-USD", 0, 0, "venue_has_none")]
    )
    assert claims.lies == []
    for false in ((low, high + 1), (low - 1, high), (first, first), (high + 10**6, high + 10**6)):
        claims.explained([("kraken", "BTC-USD", *false, "too_old")])
    assert len(claims.lies) == 4


# What may ask the machine's own clock, because it judges no data: waits, tokens, files, what is shown.
MACHINE_CLOCK = {
    "pipeline/core/runtime.py",
    "pipeline/services/run.py",
    "pipeline/ops/doctor_services.py",
    "pipeline/start.py",
    "pipeline/core/setting_types.py",
    "venues/rest/client.py",
    "producers/exchange_candles/worker.py",
    "venues/coinbase/token.py",
    "producers/dukascopy/follow.py",
    "dashboard/charts/feed.py",
    "dashboard/calendar.py",
}


def test_whatever_judges_data_asks_the_clock_that_can_be_turned() -> None:
    """Prevents: a judgement by our own clock that no fault of the judge can reach."""
    asks = re.compile(r"\btime\.time(_ns)?\(|\b(datetime|date)\.(now|utcnow|today)\(")
    folders = ("pipeline", "venues", "consumers", "producers", "dashboard", "schemas")
    files = [file for folder in folders for file in (PROJECT / folder).rglob("*.py")]
    asking = {str(file.relative_to(PROJECT)) for file in files if asks.search(file.read_text())}
    assert asking <= MACHINE_CLOCK, "use pipeline.core.runtime.now_us(), or say here why not"


def test_a_clock_can_be_turned_while_a_program_runs(python: str, tmp_path: Path) -> None:
    """Prevents: a wrong clock of ours that is none."""
    file = tmp_path / "clock"
    script = (
        "import sys, time; from pipeline.core.runtime import now_us\n"
        "for _ in sys.stdin: time.sleep(0.2); print(round((now_us() - time.time_ns() // 1000) / 1e6), flush=True)"
    )
    environment = os.environ | {"PIPELINE_CLOCK_FILE": str(file)}
    command = [python, "-c", script]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT, env=environment
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for seconds in (0, -3690, 31 * 86_400, 0):
            file.write_text(str(seconds * 1_000_000))
            child.stdin.write("\n")
            child.stdin.flush()
            assert int(child.stdout.readline()) == seconds


@pytest.fixture
def echo() -> Iterator[Proxy]:
    """A proxy in front of a server that sends back what it gets."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1000):
                    connection.sendall(data)
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    yield Proxy(server.getsockname()[1])
    server.close()


def test_the_proxy_passes_stalls_and_cuts(echo: Proxy) -> None:
    """Prevents: a fault of the judge that strikes nothing."""
    with socket.create_connection(("127.0.0.1", echo.port), timeout=10) as client:
        client.sendall(b"one")
        assert client.recv(10) == b"one"
        echo.stall()
        client.settimeout(0.5)
        client.sendall(b"two")
        with pytest.raises(TimeoutError):
            client.recv(10)
        client.settimeout(10)
        echo.flow()
        assert client.recv(10) == b"two"
        echo.cut()
        try:
            ended = client.recv(10) == b""
        except ConnectionError:
            ended = True
        assert ended
