"""Exchanges that lie, and everything around them that fails: what is stored stays true, what is not is named."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipeline.core.errors import Unavailable, WrongUse
from pipeline.services.processes import free_ports
from producers.exchange_candles.ccxt_source import CcxtSource
from producers.exchange_candles.exchange import Exchange
from producers.exchange_candles.symbols import read_symbols
from simulator.candles import candles
from simulator.tape import fixed
from simulator.testing import Simulator, running_simulator
from tests.candles_help import HISTORY, VENUES, Candles, events, hours_ago


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(seed=22, **HISTORY) as running:
        yield running


def letters(program: Candles) -> list[dict[str, Any]]:
    """Dead letters of this program, by its own tool."""
    command = [program._python, "-m", "consumers.dead_letters", "list", "--json"]
    listed = subprocess.run(command, env=program.env, capture_output=True, text=True, timeout=100)
    lines = [json.loads(line) for line in listed.stdout.splitlines() if line.startswith("{")]
    return [line for line in lines if line["id"].startswith("exchange-candles/")]


def lies(program: Candles, venue: str) -> int:
    """Final candles whose volume is not the tape's."""
    rows = program.rows(
        "SELECT extract(epoch FROM bucket)::bigint, volume FROM exchange_candles JOIN instruments USING (instrument_id)"
        " WHERE venue = %s AND final ORDER BY 1",
        venue,
    )
    tape = program.simulator.tape(venue, "BTC-USD")
    truth = {
        one.start_s: Decimal(fixed(one.volume, tape.product.quantity_decimals))
        for one in candles(tape, rows[0][0], rows[-1][0] + 60, 60, program.simulator.now_ns())
    }
    return sum(truth[start] != volume for start, volume in rows)


def test_a_volume_that_grows_after_the_close_is_not_kept(program: Candles, tmp_path: Path) -> None:
    """Prevents the first look from being the last: every live minute kept the volume of 3 s after its close."""
    program.start_writer()
    program.env |= {"EXCHANGE_CANDLES_POLL_SECONDS": "1", "EXCHANGE_CANDLES_SETTLE_SECONDS": "6"}
    for venue in VENUES:
        program.simulator.fault("settling", venue, seconds=600, settle=4)
    began = datetime.now(UTC).replace(second=0, microsecond=0)
    start = hours_ago(1)
    output = tmp_path / "follow.out"
    with output.open("w") as out:
        command = program.command("--follow", f"--backfill-start-date={start.isoformat()}")
        follower = subprocess.Popen(command, env=program.env, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 240
        young = "SELECT count(*) FROM exchange_candles WHERE NOT final AND bucket >= %s"
        closed = "SELECT count(*) FROM exchange_candles WHERE final AND bucket >= %s"
        while not program.rows(young, began)[0][0] and time.monotonic() < deadline:
            time.sleep(0.2)
        assert program.rows(young, began)[0][0], output.read_text()  # shown before it is final
        agreed = "SELECT count(*) FROM consensus_candles_1m WHERE bucket >= %s"
        while (
            program.rows(closed, began)[0][0] < 3 or not program.rows(agreed, began)[0][0]
        ) and time.monotonic() < deadline:
            assert follower.poll() is None, output.read_text()
            time.sleep(0.5)
        assert program.rows(closed, began)[0][0] >= 3, output.read_text()
    finally:
        follower.terminate()
        follower.wait(20)
    assert {venue: lies(program, venue) for venue in VENUES} == dict.fromkeys(VENUES, 0)
    assert program.rows("SELECT count(*) > 0, max(revision) FROM consensus_candles_1m WHERE bucket >= %s", began) == [
        (True, 0)
    ]


def test_half_a_window_is_not_lost(program: Candles) -> None:
    """Prevents exit 0 with 500 of 1,000 minutes: the exchange gives the newest of what was asked for."""
    program.start_writer()
    program.simulator.fault("newest-only", "binance", seconds=600, most=200)
    start = hours_ago(17)
    flags = (f"--backfill-start-date={start.isoformat()}", "--exchanges=binance")
    result = program.run(*flags)
    assert result.returncode == 0, result.stdout + result.stderr
    count = "SELECT count(*) FROM exchange_candles WHERE final AND bucket >= %s AND bucket < %s"
    assert program.rows(count, start, start + timedelta(hours=17)) == [(17 * 60,)]


def test_bad_rows_are_letters_and_cost_themselves(program: Candles) -> None:
    """Prevents a NaN from being an empty minute, or from costing a page; the run is not done and names them."""
    program.start_writer()
    program.simulator.fault("nan-row", "binance", seconds=600, every=50)
    program.simulator.fault("odd-bucket", "coinbase", seconds=600, every=50)
    program.simulator.fault("float-noise", "kraken", seconds=600)
    start = hours_ago(3)
    result = program.run(f"--backfill-start-date={start.isoformat()}")
    assert result.returncode == 1, result.stdout + result.stderr
    for text in ("binance BTC-USD", "close: 'NaN' is not a decimal number", "coinbase BTC-USD", "starts 30 s after"):
        assert text in result.stderr
    assert "kraken" not in result.stderr
    assert len(result.stderr) < 4000
    minutes = [int(start.timestamp()) // 60 + n for n in range(180)]
    bad = sum(minute % 50 == 0 for minute in minutes)
    count = (
        "SELECT venue, count(*) FROM exchange_candles JOIN instruments USING (instrument_id)"
        " WHERE final AND bucket >= %s AND bucket < %s GROUP BY 1 ORDER BY 1"
    )
    stored = program.rows(count, start, start + timedelta(hours=3))
    assert stored == [("binance", 180 - bad), ("coinbase", 180 - bad), ("kraken", 180)]
    assert lies(program, "kraken") == 0
    covered = (
        "SELECT venue, sum((extract(epoch FROM upper(r) - lower(r)) / 60)::int) FROM exchange_candle_state"
        " JOIN instruments USING (instrument_id), unnest(covered * tstzmultirange(tstzrange(%s, %s))) AS r"
        " GROUP BY 1 ORDER BY 1"
    )
    assert program.rows(covered, start, start + timedelta(hours=3)) == stored  # no state over what is not there
    found = letters(program)
    assert {(one["topic"], one["reason"]) for one in found} == {
        ("candles of binance BTC-USD", "price"),
        ("candles of coinbase BTC-USD", "bucket"),
    }
    program.simulator.clear()
    again = program.run(f"--backfill-start-date={start.isoformat()}")
    assert again.returncode == 0, again.stdout + again.stderr
    assert [number for _, number in program.rows(count, start, start + timedelta(hours=3))] == [180] * 3


def test_a_state_that_cannot_be_read_costs_its_symbol(program: Candles) -> None:
    """Prevents one row of the database from stopping the symbols behind it."""
    program.start_writer()
    flags = (f"--backfill-start-date={hours_ago(1).isoformat()}", "--exchanges=binance", "--symbols=BTC/USD,ETH/USD")
    assert program.run(*flags).returncode == 0
    with psycopg.connect(program.env["DATABASE_URL"], autocommit=True) as conn:
        conn.execute("DELETE FROM exchange_candle_state")
        conn.execute("UPDATE consensus_quorum SET as_of = 'infinity' WHERE product_id = 'BTC-USD'")
    result = program.run(*flags)
    assert result.returncode == 1
    assert "binance BTC-USD: FeatureNotSupported" in result.stderr
    assert "ETH-USD" not in result.stderr
    assert [state[:7] for (state,) in program.rows("SELECT state FROM exchange_candle_state")] == ["ETH-USD"]


def test_a_symbol_that_fails_does_not_stop_the_others(program: Candles) -> None:
    """Prevents one pair from stopping the history of all behind it."""
    program.start_writer()
    with psycopg.connect(program.env["DATABASE_URL"], autocommit=True) as conn:
        conn.execute("INSERT INTO watchlist (symbol) VALUES ('BTC/USD'), ('ETH/USD'), ('not a symbol')")
    program.simulator.fault("missing-candles", "binance", seconds=600, products=["BTC-USD"], share=1.0)
    command = [f for f in program.command("--exchanges=binance") if not f.startswith("--symbols")]
    start = hours_ago(2)
    result = subprocess.run(
        [*command, f"--backfill-start-date={start.isoformat()}"],
        env=program.env,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "not a symbol" in events(result, "symbols.left_out")[0]["text"]
    stored = "SELECT DISTINCT product_id FROM exchange_candles JOIN instruments USING (instrument_id)"
    assert program.rows(stored) == [("ETH-USD",)]
    assert program.rows("SELECT count(DISTINCT instrument_id) FROM exchange_candle_state") == [(2,)]


def test_health_answers_before_there_is_a_broker(program: Candles, tmp_path: Path) -> None:
    """Prevents the watchdog from killing a program that waits for its services, every two minutes."""
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    program.env |= {"PULSAR_URL": f"pulsar://{nobody}", "PULSAR_ADMIN_URL": f"http://{nobody}"}
    output = tmp_path / "follow.out"
    with output.open("w") as out:
        follower = subprocess.Popen(program.command("--follow"), env=program.env, stdout=out, stderr=out)
    try:
        while "health_port" not in output.read_text():
            assert follower.poll() is None, output.read_text()
            time.sleep(0.1)
        (line,) = (json.loads(line) for line in output.read_text().splitlines() if "health_port" in line)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{line['health_port']}/health")
        assert caught.value.code == 503
        assert json.load(caught.value)["why"] == ["waiting for the broker"]
    finally:
        follower.terminate()
        assert follower.wait(20) == 0


def test_a_supervised_run_waits_for_symbols(program: Candles, tmp_path: Path) -> None:
    """Prevents exit 2, which supervisord never repeats, because a table was empty for a moment."""
    output = tmp_path / "follow.out"
    program.env |= {"EXCHANGE_CANDLES_ENABLED": "true", "EXCHANGE_CANDLES_EXCHANGES": "binance"}
    with output.open("w") as out:
        command = [program._python, "-m", "producers.exchange_candles", "--follow"]
        follower = subprocess.Popen(command, env=program.env, stdout=out, stderr=out)
    try:
        while "no symbols" not in output.read_text():
            assert follower.poll() is None, output.read_text()
            time.sleep(0.1)
        with psycopg.connect(program.env["DATABASE_URL"], autocommit=True) as conn:
            conn.execute("INSERT INTO watchlist (symbol) VALUES ('BTC/USD')")
        while "following BTC-USD" not in output.read_text():
            assert follower.poll() is None, output.read_text()
            time.sleep(0.1)
    finally:
        follower.terminate()
        assert follower.wait(20) == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_symbols_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    """Prevents a file of another editor from being taken for another list."""
    file = tmp_path / "symbols"
    file.write_bytes("# Märkte\r\nBTC/USD, eth-usd\r\n\r\nSOL/EUR # neu\r\n".encode(encoding))
    assert read_symbols([], file, None) == ("BTC-USD", "ETH-USD", "SOL-EUR")


@pytest.mark.parametrize(
    "data", ["Ä BTC/USD".encode("latin-1"), os.urandom(400) + b"\0\xff", b"BTC/USD\n!!\n??\n", b""]
)
def test_symbols_that_are_none_are_sentences(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "symbols"
    file.write_bytes(data)
    with pytest.raises(WrongUse) as caught:
        read_symbols([], file, None)
    assert all(line.startswith(("--symbols-file", "no symbols")) for line in str(caught.value).splitlines())


@pytest.mark.parametrize("kind", ["bomb", "endless", "drip", "redirect"])
def test_ccxt_is_bounded(tmp_path: Path, kind: str) -> None:
    """Prevents an exchange from filling memory or time through ccxt's own session: 5.5 GB came in 10 s."""
    bomb = gzip.compress(b"[") + gzip.compress(b"1," * 500_000) * 100
    heads = {
        "bomb": f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode() + bomb,
        "endless": b"\r\n",
        "drip": b"\r\n",
        "redirect": b"Location: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    }
    sent = [0]

    def one(peer: socket.socket) -> None:
        with peer:
            try:
                peer.recv(65536)
                peer.sendall(b"HTTP/1.1 %s X\r\n" % (b"302" if kind == "redirect" else b"200") + heads[kind])
                while kind in ("endless", "drip"):
                    sent[0] += peer.send(b"[" * 65536 if kind == "endless" else b"[")
                    if kind == "drip":
                        time.sleep(0.05)
            except OSError:
                pass

    def serve() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(peer,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        exchange = Exchange(
            "kraken", threading.Event(), tmp_path, base_url=f"http://127.0.0.1:{server.getsockname()[1]}"
        )
        source = exchange.source
        assert isinstance(source, CcxtSource)
        source.session.whole_s = 1.0 if kind == "drip" else 60.0
        with pytest.raises(Unavailable) as caught:
            exchange.load_markets(1)
        says = {
            "bomb": "bytes when decoded",
            "endless": "more than",
            "drip": "not complete",
            "redirect": "redirects are not followed",
        }
        assert says[kind] in str(caught.value)
        assert sent[0] < 2 * source.session.max_bytes
