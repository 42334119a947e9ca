"""`pipeline.verify` finds what is wrong. A check that cannot fail proves nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from consumers.quote_hours import Hours
from consumers.tickers import Tickers
from consumers.trades import Trades
from pipeline.core.times import from_us
from pipeline.verify import verify
from tests.environment import Environment
from tests.messages import T0_US, hour_bytes, received, store, ticker_record, trade, trades_record
from tests.writer_help import until

HOUR = 3_600_000_000


@pytest.fixture
def conn(database_url: str) -> Iterator[Any]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        store(Trades(), connection, [received("trades", trades_record([trade(i) for i in range(1, 200)]))])
        hours = [hour_bytes([1, 2, 60_001], [114543, 114544, 114545], hour_start_us=T0_US + i * HOUR) for i in range(3)]
        store(Hours(), connection, [received("quotes", hour) for hour in hours])
        yield connection


def wrong(conn: Any) -> list[str]:
    return [f"{v.kind}: {text}" for v in verify(conn) for text in v.wrong]


def test_what_the_writers_stored_is_proven(conn: Any) -> None:
    assert wrong(conn) == []
    assert {(v.kind, v.rows) for v in verify(conn)} == {("trades", 199), ("quotes", 9)}


COPY = "INSERT INTO trades SELECT instrument_id, {}, price, quantity, taker_side, origin FROM trades WHERE trade_id = 9"
TWICE = "INSERT INTO quotes SELECT * FROM quotes ORDER BY ts LIMIT 1"
LAST = "(SELECT max(hour) FROM quote_hours)"


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("DELETE FROM trades WHERE trade_id = 7", "the ledger contains ids that are not stored: {[7,8)}"),
        ("DELETE FROM trades WHERE trade_id = 7", "the ledger contains 199 ids, 198 rows are stored"),
        ("DELETE FROM trades WHERE trade_id = 199", "the ledger contains 199 ids, 198 rows are stored"),
        (COPY.format("trade_id, ts + '1 us'"), "id 9 is stored 2 times"),
        (COPY.format("trade_id, ts + '1 hour'"), "id 9 is stored 2 times"),
        (COPY.format("500, ts"), "rows are stored that the ledger does not contain: {[500,501)}"),
        ("UPDATE trade_coverage SET rows = rows + 1", "the ledger counts 200 rows, its ids are 199"),
        (
            "UPDATE trade_coverage SET ids = ids - '{[5,8)}', rows = rows - 3",
            "ids 5 to 7 are neither stored nor explained",
        ),
        ("UPDATE trades SET price = 100.6 WHERE trade_id = 100", "the 00:01:00 candle of"),
        ("UPDATE trades SET quantity = 3 WHERE trade_id = 100", "the 01:00:00 candle of"),
        ("DELETE FROM trade_candle_1m WHERE first_id = 1", "the 00:01:00 candle of"),
        ("UPDATE trade_candle_1h SET close = 1", "the 01:00:00 candle of"),
        ("UPDATE quotes SET bid = 1 WHERE seq = 0", "the 00:01:00 candle of"),
        ("UPDATE quote_candle_1h SET ask_open = 1", "the 01:00:00 candle of"),
        ("DELETE FROM quotes WHERE bid = 1.14545", "the ledger counts 3 quotes, 2 are stored"),
        (f"DELETE FROM quote_hours WHERE hour = {LAST}", "the ledger counts 0 quotes, 3 are stored"),
        (f"DROP INDEX quotes_key; {TWICE}", "quote 0 of 2023-"),
        (f"UPDATE quote_hours SET state = 'seen_empty' WHERE hour = {LAST} - INTERVAL '1 hour'", "1 hours between"),
    ],
)
def test_damage_is_found(conn: Any, damage: str, found: str) -> None:
    conn.execute(damage)
    assert any(found in text for text in wrong(conn)), wrong(conn)


def test_a_span_that_begins_and_ends_within_an_hour_is_proven(conn: Any) -> None:
    """Prevents that the hours at its ends, of which only a part was read, are called wrong."""
    start = from_us(T0_US)
    spans = [(1, 90), (30, 90), (59, 61), (0, 150)]
    for first, last in spans:
        verdicts = list(verify(conn, None, None, start + timedelta(minutes=first), start + timedelta(minutes=last)))
        assert [text for verdict in verdicts for text in verdict.wrong] == [], (first, last)


def test_a_gap_belongs_to_every_span_that_it_touches(conn: Any) -> None:
    """Prevents "proven" of a span within the gap, of which the trade before it is earlier than the span."""
    conn.execute("UPDATE trade_coverage SET ids = ids - '{[50,150)}', rows = rows - 100, asked = '{[1,250)}'")
    conn.execute("DELETE FROM trades WHERE trade_id BETWEEN 50 AND 149")
    start = from_us(T0_US)

    def gaps(first_s: int, last_s: int) -> list[str]:
        span = start + timedelta(seconds=first_s), start + timedelta(seconds=last_s)
        found = [text for verdict in verify(conn, "kraken", None, *span) for text in verdict.wrong]
        return [text for text in found if text.endswith("neither stored nor explained")]

    inside = "ids 50 to 149 are neither stored nor explained"
    assert [gaps(*span) for span in ((70, 90), (0, 90), (70, 160))] == [[inside]] * 3
    assert [gaps(*span) for span in ((0, 49), (151, 160))] == [[], []]
    assert gaps(180, 10_000) == gaps(5_000, 10_000) == ["ids 200 to 249 are neither stored nor explained"]


def test_two_sessions_find_what_one_finds(conn: Any, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents candles that are in none of the pieces of time, or in two."""
    conn.execute("UPDATE quote_candle_1m SET ticks = 7")
    conn.execute("UPDATE quote_candle_1h SET open = 7")
    conn.execute("UPDATE trades SET price = 7 WHERE trade_id = 100")
    alone = wrong(conn)
    monkeypatch.setattr("pipeline.verify.LARGE", 1)
    with psycopg.connect(database_url, autocommit=True) as second:
        together = [f"{v.kind}: {text}" for v in verify(conn, second=second) for text in v.wrong]
    assert len(alone) == 6 + 3 + 2
    assert sorted(together) == sorted(alone)


def test_the_command_says_so_and_ends_with_1(
    conn: Any, env: Callable[..., dict[str, str]], python: str, database_url: str
) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [python, "-m", "pipeline.verify", *arguments]
        return subprocess.run(command, env=env(), capture_output=True, text=True, timeout=60, check=False)

    good = run()
    assert (good.returncode, good.stdout.count("proven")) == (0, 2), good.stdout + good.stderr
    conn.execute("DELETE FROM trades WHERE trade_id = 7")
    bad = run("--venue", "kraken", "--product", "BTC/USD", "--json")
    assert bad.returncode == 1
    assert "{[7,8)}" in bad.stdout
    assert run("--venue", "dukascopy").returncode == 0
    nothing = run("--venue", "nobody")
    assert (nothing.returncode, nothing.stderr.strip()) == (
        2,
        "verify: no stored data matches; see the view completeness.",
    )
    assert run("--from", "tomorrow").returncode == 2


def test_a_time_of_which_nothing_is_known_is_not_proven(
    conn: Any, env: Callable[..., dict[str, str]], python: str
) -> None:
    """Prevents "proven", with all rows of the instrument, for a time in which there was nothing to check."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [python, "-m", "pipeline.verify", *arguments]
        return subprocess.run(command, env=env(), capture_output=True, text=True, check=False)

    empty = run("--from", "1990-01-01", "--to", "1991-01-01")
    assert (empty.returncode, empty.stdout) == (2, "")
    assert empty.stderr == "verify: nothing is stored in that time; see the view completeness.\n"
    for first, last in (("2024-01-02", "2024-01-01"), ("2024-01-01", "2024-01-01")):
        told = f"verify: --from {first!r} is not before --to {last!r}; give an earlier --from.\n"
        for more in ((), ("--archive",)):
            reversed_ = run("--from", first, "--to", last, *more)
            assert (reversed_.returncode, reversed_.stderr) == (2, told)
    part = run("--from", "2023-11-14T22:00:10", "--to", "2023-11-14T22:01", "--json")
    assert part.returncode == 0, part.stderr
    rows = {(one["kind"], one["rows"], one["first_at"]) for one in map(json.loads, part.stdout.splitlines())}
    assert rows == {("trades", 50, "2023-11-14 22:00:10+00:00"), ("quotes", 0, None)}


def test_what_the_ledger_knows_of_a_time_counts_as_something(conn: Any) -> None:
    """Prevents that an hour which was closed, or the time between two neighbours, is called unknown."""
    start = from_us(T0_US)

    def found(first_s: float, last_s: float) -> dict[str, tuple[bool, int]]:
        span = start + timedelta(seconds=first_s), start + timedelta(seconds=last_s)
        return {v.kind: (v.found, v.rows) for v in verify(conn, None, None, *span)}

    hours = "INSERT INTO quote_hours SELECT instrument_id, hour + INTERVAL '5 hours', '{}', 0, feed, fetched_at, 0"
    for state, known in (("seen_empty", False), ("closed", True)):
        conn.execute(hours.format(state) + " FROM quote_hours ORDER BY hour LIMIT 1 ON CONFLICT DO NOTHING")
        conn.execute(f"UPDATE quote_hours SET state = '{state}' WHERE hour = {LAST}")
        assert found(5 * 3600, 6 * 3600) == {"trades": (False, 0), "quotes": (known, 0)}
    assert found(7.2, 7.8) == {"trades": (True, 0), "quotes": (True, 0)}
    conn.execute("DELETE FROM trade_candle_1m")
    conn.execute("DELETE FROM trade_candle_1h")
    assert found(7.2, 7.8)["trades"] == (True, 0)


@pytest.mark.parametrize("lost", ["quote_candle_1h", "quote_candle_1m", "quotes"])
def test_samples_are_not_forgotten_with_one_of_their_tables(conn: Any, lost: str) -> None:
    """Prevents "proven" of a database whose candles are gone, because the instrument was known by them alone."""
    store(Tickers(), conn, [received("ticker", ticker_record(T0_US + n, n)) for n in range(5)])
    assert {(v.kind, v.rows) for v in verify(conn, "kraken")} == {("trades", 199), ("tickers", 5)}
    conn.execute(
        f"DELETE FROM {lost} q USING instruments i WHERE i.instrument_id = q.instrument_id AND venue = 'kraken'"
    )
    told = [text for v in verify(conn, "kraken") if v.kind == "tickers" for text in v.wrong]
    assert told
    assert all(" candle of " in text for text in told)


@pytest.mark.parametrize(
    ("lost", "kind", "found"),
    [
        ("trade_coverage", "trades", "rows are stored that the ledger does not contain: {[1,200)}"),
        ("quote_hours", "tickers", "the ledger counts 0 quotes, 3 are stored"),
    ],
)
def test_rows_are_not_forgotten_with_their_ledger(conn: Any, lost: str, kind: str, found: str) -> None:
    """Prevents "proven" of ticks that no ledger counts any more."""
    conn.execute(f"DELETE FROM {lost}")
    assert any(text.startswith(f"{kind}: ") and text.endswith(found) for text in wrong(conn)), wrong(conn)


def test_a_connection_that_is_lost_on_the_way_is_one_sentence(
    conn: Any, env: Environment, database_url: str, python: str
) -> None:
    """Prevents a traceback in place of an answer when somebody restarts the database."""
    waiting = """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'verify' AND wait_event_type = 'Lock'"""
    with psycopg.connect(database_url, autocommit=True) as other, conn.transaction():
        conn.execute("LOCK TABLE trades IN ACCESS EXCLUSIVE MODE")
        command = [python, "-m", "pipeline.verify"]
        asked = subprocess.Popen(command, env=env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until(lambda: other.execute(waiting).fetchone() or asked.poll() is not None)
        out, err = asked.communicate(timeout=60)
    assert (asked.returncode, out) == (1, "")
    assert err.startswith("verify: the database: ")
    assert err.count("\n") == 1
