"""Candles of many exchanges, from ccxt through the topics into the tables: complete, with few calls, faults named."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from pipeline.services.processes import free_ports
from simulator.candles import candles
from simulator.tape import fixed
from simulator.testing import Simulator, running_simulator
from tests.candles_help import CANDLE_CALLS, HISTORY, VENUES, Candles, events, hours_ago


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(seed=21, **HISTORY) as running:
        yield running


def test_a_week_of_three_exchanges_is_complete_and_a_second_run_writes_nothing(program: Candles) -> None:
    """Prevents missing minutes, wrong digits, wasted calls and a second run that does it all again."""
    program.start_writer()
    start = hours_ago(7 * 24)
    end = start + timedelta(days=7)
    begun = time.monotonic()
    first = program.run(f"--backfill_start_date={start.isoformat()}", "--run_mode=wet", "--verbosity=0")
    took_minutes = int((time.monotonic() - begun) / 60) + 1
    assert first.returncode == 0, first.stdout + first.stderr
    lines = {line["venue"]: line for line in events(first, "load.candles_processed")}
    assert set(lines) == set(VENUES)
    for line in lines.values():  # as an older service wrote it
        assert line["candles"] >= 10_080
        assert line["text"] == f"Successfully processed {line['candles']} candles for BTC-USD"
    calls = program.calls()
    minutes = (datetime.now(UTC) - start).total_seconds() / 60
    # Each minute is looked at twice; the second time by the hour that it is part of. What closes during a run is asked
    # for at its end.
    for venue, page in (("binance", 996), ("coinbase", 296), ("kraken", 716)):
        assert minutes // page <= calls[venue] <= minutes // page + 3 + took_minutes, (venue, calls)
    count = "SELECT count(*) FROM exchange_candles WHERE final AND bucket >= %s AND bucket < %s"
    assert program.rows(count, start, end) == [(30_240,)]
    for venue in VENUES:
        tape = program.simulator.tape(venue, "BTC-USD")
        begin = int(start.timestamp()) + 3 * 86_400
        expected = candles(tape, begin, begin + 86_400, 60, program.simulator.now_ns())
        stored = program.rows(
            "SELECT extract(epoch FROM bucket)::bigint, open, high, low, close, volume FROM exchange_candles"
            " JOIN instruments USING (instrument_id) WHERE venue = %s AND bucket >= to_timestamp(%s)"
            " AND bucket < to_timestamp(%s) ORDER BY bucket",
            venue,
            begin,
            begin + 86_400,
        )
        decimals = [tape.product.price_decimals] * 4 + [tape.product.quantity_decimals]
        assert [(r[0], *map(float, r[1:])) for r in stored] == [
            (c.start_s, *(float(fixed(v, d)) for v, d in zip(c[1:6], decimals, strict=True))) for c in expected
        ]
    assert program.rows("SELECT count(*) FROM consensus_candles_1m WHERE bucket < %s", end) == [(10_080,)]
    assert program.rows("SELECT count(*), min(candles) FROM consensus_candles_1h WHERE bucket < %s", end) == [(168, 60)]

    what = (
        "SELECT md5(string_agg(e::text, ',' ORDER BY instrument_id, bucket)) FROM exchange_candles e WHERE bucket < %s"
    )
    before = program.rows(what, end)
    program.simulator.reset_stats()
    second = program.run(f"--backfill-start-date={start.isoformat()}")
    assert second.returncode == 0, second.stdout + second.stderr
    assert program.rows(what, end) == before
    assert all(number <= 4 for number in program.calls().values()), program.calls()
    states = program.rows("SELECT DISTINCT state FROM exchange_candle_state ORDER BY 1")
    assert states[0] == ("BTC-USD-backfill",)


def test_a_venue_that_is_down_with_quorum_two_and_three(program: Candles) -> None:
    """Prevents one exchange from holding the others back, and a silent lack of consensus."""
    program.start_writer()
    start = f"--backfill-start-date={hours_ago(2).isoformat()}"
    soon = {"producers.exchange_candles.exchange.ATTEMPTS": 2}  # given up after a second instead of fifteen
    program.simulator.fault("venue-down", "coinbase", seconds=600)
    three = program.run(start, "--min-exchanges-required=3", constants=soon)
    assert three.returncode == 1
    assert "coinbase" in three.stderr
    stored = "SELECT DISTINCT venue FROM exchange_candles JOIN instruments USING (instrument_id) ORDER BY 1"
    assert program.rows(stored) == [("binance",), ("kraken",)]
    assert program.rows("SELECT count(*) FROM consensus_candles_1m") == [(0,)]
    (missing,) = events(three, "consensus.missing")
    assert (missing["missing"], missing["required"]) == (["coinbase"], 3)
    assert missing["candles"] >= 120

    two = program.run(start, "--min-exchanges-required=2", constants=soon)
    assert two.returncode == 1
    assert program.rows("SELECT count(*) >= 120, min(exchanges), max(required) FROM consensus_candles_1m") == [
        (True, ["binance", "kraken"], 2)
    ]

    program.simulator.clear()
    late = program.run(start, "--min-exchanges-required=2")
    assert late.returncode == 0, late.stdout + late.stderr
    revised = program.rows("SELECT exchanges, revision, count(*) >= 120 FROM consensus_candles_1m GROUP BY 1, 2")
    assert (list(VENUES), 1, True) in revised


def test_a_new_quorum_holds_though_nothing_is_to_be_fetched(program: Candles) -> None:
    """Prevents a quorum that only takes effect with the next candle: hours close too rarely to hide that."""
    program.start_writer()
    hourly = (f"--backfill-start-date={hours_ago(5).isoformat()}", "--candle-granularity-minutes=60")
    short = "SELECT count(*) FROM consensus_missing WHERE granularity_s = 3600"
    program.simulator.fault("wrong-price", "binance", seconds=600, factor=1.2)
    assert program.run(*hourly, "--min-exchanges-required=3").returncode == 0
    assert program.rows(short)[0][0] >= 4
    program.simulator.reset_stats()
    assert program.run(*hourly, "--min-exchanges-required=2").returncode == 0
    assert program.rows(short) == [(0,)]
    assert program.rows("SELECT required FROM consensus_quorum WHERE granularity_s = 3600") == [(2,)]


def test_a_wrong_price_is_left_out_named_and_stored(program: Candles) -> None:
    """Prevents a broken feed from moving the consensus."""
    program.start_writer()
    program.simulator.fault("wrong-price", "binance", seconds=600, factor=1.2)
    result = program.run(f"--backfill-start-date={hours_ago(1).isoformat()}", "--min-exchanges-required=2")
    assert result.returncode == 0, result.stdout + result.stderr
    # A minute that closed meanwhile may have been asked of some exchanges and not of all.
    old = "bucket < now() - interval '3 minutes'"
    assert program.rows(f"SELECT DISTINCT exchanges, left_out FROM consensus_candles_1m WHERE {old}") == [
        (["coinbase", "kraken"], ["binance"])
    ]
    off = program.rows(
        "SELECT min(e.close / c.close) FROM exchange_candles e JOIN instruments i USING (instrument_id)"
        " JOIN consensus_candles_1m c USING (bucket) WHERE i.venue = 'binance'"
    )
    assert float(off[0][0]) > 1.19


def test_a_run_that_was_killed_goes_on_where_the_state_is(program: Candles) -> None:
    """Prevents a state ahead of the candles, and a resumption from the beginning."""
    program.start_writer()
    start = hours_ago(72)
    flags = (f"--backfill-start-date={start.isoformat()}", "--exchanges=coinbase")
    with subprocess.Popen(program.command(*flags, "--api-call-delay-seconds=0.5"), env=program.env) as victim:
        deadline = time.monotonic() + 120
        while not program.rows("SELECT 1 FROM exchange_candle_state") and time.monotonic() < deadline:
            assert victim.poll() is None
            time.sleep(0.1)
        victim.kill()
    asked = program.calls()["coinbase"]
    assert 0 < asked < 15
    program.simulator.reset_stats()
    result = program.run(*flags)
    assert result.returncode == 0, result.stdout + result.stderr
    # 4320 / 296 and the hours of the second look, and the minutes since; the state may be a page behind
    assert program.calls()["coinbase"] <= 19
    count = "SELECT count(*) FROM exchange_candles WHERE final AND bucket >= %s AND bucket < %s"
    assert program.rows(count, start, start + timedelta(hours=72)) == [(4320,)]


def test_answers_that_are_none_are_asked_again(program: Candles) -> None:
    """Prevents an error page from being taken for "no candles", which the state would keep for ever."""
    program.start_writer()
    start = hours_ago(1)
    spoilt = {"binance": ("html", "429"), "coinbase": ("empty", "5xx"), "kraken": ("truncated-body",)}
    for venue, faults in spoilt.items():
        for fault in faults:
            program.simulator.fault(fault, venue, count=1, endpoint=CANDLE_CALLS[venue])
    result = program.run(f"--backfill-start-date={start.isoformat()}")
    assert result.returncode == 0, result.stdout + result.stderr
    hour = "SELECT count(*) FROM exchange_candles WHERE final AND bucket >= %s AND bucket < %s"
    assert program.rows(hour, start, start + timedelta(hours=1)) == [(180,)]
    assert len(events(result, "request.retry")) == sum(len(faults) for faults in spoilt.values())


def test_follow_stores_each_minute_as_it_closes_and_stops_at_once(program: Candles, tmp_path: Path) -> None:
    """Prevents a supervised run that back-fills and then sleeps, or that holds up the end of supervisord."""
    program.start_writer()
    program.env |= {"EXCHANGE_CANDLES_POLL_SECONDS": "2", "EXCHANGE_CANDLES_SETTLE_SECONDS": "20"}
    began = datetime.now(UTC).replace(second=0, microsecond=0)
    output, started = tmp_path / "follow.out", time.monotonic()
    with output.open("w") as out:
        command = program.command("--follow", f"--backfill-start-date={hours_ago(1).isoformat()}")
        follower = subprocess.Popen(command, env=program.env, stdout=out)
    try:
        deadline = started + 270
        closed = "SELECT count(*) FROM exchange_candles WHERE final AND bucket >= %s"
        while program.rows(closed, began)[0][0] < 3 and time.monotonic() < deadline:
            assert follower.poll() is None, output.read_text()
            time.sleep(0.5)
        assert program.rows(closed, began)[0][0] >= 3
        port = next(
            json.loads(line)["health_port"] for line in output.read_text().splitlines() if "health_port" in line
        )
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
            assert json.load(answer)["ok"] is True
        calls = sum(program.calls().values())
        # Two for the start; then one when a minute closes and one when it has settled, though it looks every 5 s.
        minutes = (time.monotonic() - started) / 60
        assert calls <= 3 * (5 + 2 * minutes), (calls, minutes)
    finally:
        follower.terminate()
        assert follower.wait(5) == 0


def test_missing_candles_are_missing_and_not_asked_for_ever(program: Candles) -> None:
    """Prevents an endless search for minutes without a trade."""
    program.start_writer()
    start = hours_ago(8)
    for venue in VENUES:
        program.simulator.fault("missing-candles", venue, seconds=600, share=0.2)
    flags = (f"--backfill-start-date={start.isoformat()}", "--min-exchanges-required=2")
    assert program.run(*flags).returncode == 0
    minutes = program.rows("SELECT count(DISTINCT bucket), count(*) FROM exchange_candles WHERE final")[0]
    assert minutes[0] > 460
    assert 0.7 < minutes[1] / (3 * minutes[0]) < 0.9
    program.simulator.reset_stats()
    assert program.run(*flags).returncode == 0
    assert all(number <= 2 for number in program.calls().values()), program.calls()


def test_a_dry_run_shows_and_publishes_nothing(program: Candles) -> None:
    """Prevents an experiment from leaving traces. The broker's address leads nowhere."""
    program.env |= {"PULSAR_URL": f"pulsar://127.0.0.1:{free_ports(1)[0]}"}
    start = f"--backfill_start_date={hours_ago(5).isoformat()}"
    result = program.run("--run_mode=dry", "--dry_run_limit=3", start)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("would write") == 9
    assert result.stdout.count("would fetch up to 3") == 3  # 300 and some minutes
    assert program.rows("SELECT count(*) FROM exchange_candles") == [(0,)]


def test_symbols_short_of_the_quorum_are_named_and_left_out(program: Candles, tmp_path: Path) -> None:
    """Prevents silent loss of a symbol, from a file as from the watchlist."""
    with psycopg.connect(program.env["DATABASE_URL"], autocommit=True) as conn:
        conn.execute("INSERT INTO watchlist (symbol) VALUES ('BTC/USD'), ('NOSUCH/USD')")
    command = [flag for flag in program.command("--run-mode=dry", "--dry-run-limit=0") if "--symbols" not in flag]
    listed = subprocess.run(command, env=program.env, capture_output=True, text=True, timeout=100)
    file = tmp_path / "symbols.txt"
    file.write_text("# mine\nETH/USD\nNOSUCH/USD  # gone\n")
    filed = subprocess.run(
        [*command, f"--symbols-file={file}"], env=program.env, capture_output=True, text=True, timeout=100
    )
    for result, good in ((listed, "BTC-USD"), (filed, "ETH-USD")):
        assert result.returncode == 0, result.stderr
        texts = [event["text"] for event in events(result, "symbols.checked")]
        assert texts == [
            "Auto-detected min exchanges required: 3",
            "Symbol validation: 1/2 symbols meet minimum 3 exchange requirement",
        ]
        assert events(result, "symbols.left_out")[0]["symbols"] == ["NOSUCH-USD"]
        assert f"kraken {good}: would fetch" in result.stdout


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--symbols=NOSUCH/USD"], "lower --min-exchanges-required"),
        (["--min_exchanges_required=4"], "only 3 exchange(s) are given"),
        (["--exchanges=binanse"], "did you mean binance?"),
        (["--candle-granularity-minutes=7"], "does not offer it"),
        (["--backfill-start-date=soon"], "--backfill-start-date"),
    ],
)
def test_wrong_use_says_what_to_change(program: Candles, flags: list[str], says: str) -> None:
    """Prevents a stack trace, or a run that does something else than was meant."""
    result = program.run("--run-mode=dry", *flags)
    assert result.returncode == 2, result.stdout + result.stderr
    assert says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
