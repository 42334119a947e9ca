"""Retention drops what the archive holds and nothing else; it stays accounted for, and comes back when it is wanted."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from consumers.quote_hours import Hours
from consumers.trades import Trades
from pipeline import restore_ticks, retention
from pipeline.archive.archive import Archive
from pipeline.archive.storage import Folder
from pipeline.core.runtime import now_us
from pipeline.core.settings import DatabaseSettings, load
from pipeline.core.times import to_us
from pipeline.ops.verdict import words
from pipeline.retention import Dropped, drop_old
from pipeline.verify import verify
from tests.archive_help import (
    EURUSD_DAY,
    EURUSD_QUOTES,
    KRAKEN_TRADES,
    archive_all,
    archive_in,
    rows_everywhere,
    store_eurusd_day,
    store_kraken_trades,
)
from tests.environment import Environment
from tests.messages import T0_US, hour_bytes, received, store, trade, trades_record


@pytest.fixture
def archive(conn: Any, tmp_path: Path) -> Archive:
    return archive_in(conn, tmp_path / "archive")


def counts(conn: Any) -> tuple[int, int]:
    row: tuple[int, int] = conn.execute(
        "SELECT (SELECT count(*) FROM trades), (SELECT count(*) FROM quotes)"
    ).fetchone()
    return row


def known(conn: Any) -> list[Any]:
    """What the ledger says of everything that was ever stored."""
    query = "SELECT venue, product_id, kind, rows, first_at FROM completeness ORDER BY 1, 2, 3"
    return list(conn.execute(query).fetchall())


def texts(conn: Any, table: str) -> list[Any]:
    """Rows as text: also how many decimals were written."""
    return sorted(conn.execute(f"SELECT t::text FROM {table} t").fetchall())


def nothing_wrong(conn: Any) -> bool:
    return [text for verdict in verify(conn) for text in verdict.wrong] == []


def test_without_an_archive_nothing_is_dropped_until_it_is_said_that_this_is_meant(conn: Any, storage: Folder) -> None:
    now = now_us()
    frame = received("trades", trades_record([trade(1, T0_US), trade(2, T0_US + 5), trade(3, now - 5_000_000)]))
    hour = received("quotes", hour_bytes([1, 2], [114543, 114544]))
    store(Trades(), conn, [frame])
    store(Hours(), conn, [hour])
    before = conn.execute("SELECT * FROM candles_1m ORDER BY 1, 2, 3").fetchall()
    assert drop_old(conn, 30, storage) == Dropped(
        0,
        [
            "quotes of dukascopy EUR-USD 2023-11-14: not archived",
            "trades of kraken BTC-USD 2023-11-14: not archived",
        ],
    )
    assert counts(conn) == (3, 2)
    assert drop_old(conn, 30, storage, without_archive=True) == Dropped(2)
    assert drop_old(conn, 30, storage, without_archive=True) == Dropped(0)
    assert conn.execute("SELECT trade_id FROM trades").fetchall() == [(3,)]
    assert counts(conn) == (1, 0)
    assert conn.execute("SELECT * FROM candles_1m ORDER BY 1, 2, 3").fetchall() == before
    again: list[Any] = [store(Trades(), conn, [frame]), store(Hours(), conn, [hour])]
    assert again == [(0, []), (0, [])], "a message that comes again after the drop"
    assert conn.execute("SELECT sum(missing) FROM completeness").fetchone() == (0,)
    assert nothing_wrong(conn)


def test_older_ticks_that_were_loaded_after_a_drop_are_no_error(conn: Any, storage: Folder) -> None:
    """Prevents that correctly stored history is called wrong, and that what cannot be compared is called proven."""
    now, day = now_us(), 86_400_000_000

    def stored(first: int, at_us: int) -> None:
        record = trades_record([trade(n, at_us + n) for n in range(first, first + 10)], origin="history")
        assert store(Trades(), conn, [received("trades", record)]) == (10, [])

    def quoted(at_us: int) -> None:
        hour = hour_bytes([1, 2], [114543, 114544], hour_start_us=at_us)
        assert store(Hours(), conn, [received("quotes", hour)]) == (2, [])

    stored(100, T0_US)
    stored(200, now - 5_000_000)
    quoted(T0_US)
    quoted(now // 3_600_000_000 * 3_600_000_000 - 10 * day)
    assert drop_old(conn, 30, storage, without_archive=True) == Dropped(2)
    stored(50, T0_US - 30 * day)
    quoted(T0_US - 30 * day)
    conn.execute("UPDATE trade_coverage SET asked = ids, live_from = NULL")
    conn.execute("UPDATE quote_requests SET hours = '{}', follow_from = NULL")
    assert [text for v in verify(conn) for text in v.wrong if "asked for" not in text] == []
    (dropped,) = conn.execute("SELECT DISTINCT dropped_before FROM instruments").fetchone()
    assert [words(v)[0] for v in verify(conn)] == [f"proven from {dropped:%Y-%m-%d} on"] * 2
    assert {words(v)[0] for v in verify(conn, to=dropped)} == {
        f"not compared: ticks before {dropped:%Y-%m-%d} were dropped"
    }
    conn.execute("DELETE FROM trades WHERE trade_id = 205")
    assert any("not stored: {[205,206)}" in text for v in verify(conn) for text in v.wrong)


def test_a_file_that_alone_holds_rows_must_be_there(
    conn: Any, archive: Archive, storage: Folder, env: Environment, python: str, tmp_path: Path
) -> None:
    """Prevents "proven" while the only copy of the ticks is gone, and of rows that nobody read."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [python, "-m", "pipeline.verify", *arguments]
        environment = env(ARCHIVE_PATH=tmp_path / "archive")
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    store_eurusd_day(conn)
    store_kraken_trades(conn)
    archive_all(conn, archive)
    assert drop_old(conn, 30, storage) == Dropped(2)
    good = run()
    assert (good.returncode, "proven" in good.stdout) == (0, False), good.stdout
    told = " ".join(good.stdout.split())
    assert "1,000 rows only in files" in told
    assert "136,741 rows only in files" in told
    files = run("--archive")
    told = " ".join(files.stdout.split())
    assert (files.returncode, told.count("candles of 1 proven")) == (0, 2), files.stdout + files.stderr
    late_trade(conn)
    assert run("--archive").returncode == 0, "the candles know it, the file does not yet"
    assert "proven, 1,000 rows only in files" in " ".join(run("--venue", "kraken").stdout.split())
    (path,) = conn.execute("SELECT path FROM archived WHERE kind = 'trades'").fetchone()
    storage.remove(path)
    bad = run("--json")
    assert bad.returncode == 1
    wrong = {one["kind"]: one["wrong"] for one in map(json.loads, bad.stdout.splitlines())}
    assert wrong == {"quotes": [], "trades": [f"{path} is not in {storage.address}: it alone has 1,000 rows"]}
    assert run("--from", "2019-02-04", "--to", "2019-02-05").returncode == 0, "it is of another time"


def test_the_command_asks_when_there_is_no_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_RETENTION_DAYS", "30")
    monkeypatch.setenv("ARCHIVE_ENABLED", "false")
    answer = CliRunner().invoke(retention.main)
    assert answer.exit_code == 2
    assert "DATABASE_RETENTION_WITHOUT_ARCHIVE=true" in answer.output


def test_what_is_archived_is_dropped_accounted_for_and_read_all_the_same(
    conn: Any, archive: Archive, storage: Folder
) -> None:
    store_eurusd_day(conn)
    store_kraken_trades(conn)
    store(Trades(), conn, [received("trades", trades_record([trade(20_000_000, now_us() - 5_000_000)]))])
    rows = {kind: rows_everywhere(conn, archive, kind) for kind in ("trades", "quotes")}
    candles = conn.execute("SELECT * FROM candles_1m ORDER BY 1, 2, 3").fetchall()
    completeness = known(conn)
    conn.execute("UPDATE trade_coverage SET asked = ids, live_from = NULL")  # the single trade of today is no gap
    assert archive_all(conn, archive) == []
    assert drop_old(conn, 30, storage) == Dropped(2)
    assert counts(conn) == (1, 0)
    assert {kind: rows_everywhere(conn, archive, kind) for kind in ("trades", "quotes")} == rows
    assert conn.execute("SELECT * FROM candles_1m ORDER BY 1, 2, 3").fetchall() == candles
    assert known(conn) == completeness
    assert nothing_wrong(conn)
    spans = conn.execute("SELECT product_id, kind FROM archive_only ORDER BY 1").fetchall()
    assert spans == [("BTC-USD", "trades"), ("EUR-USD", "quotes")]
    assert drop_old(conn, 30, storage) == Dropped(0)


def test_a_file_that_is_lost_or_broken_keeps_its_rows_in_the_table(
    conn: Any, archive: Archive, storage: Folder, in_env: Callable[..., None]
) -> None:
    store_kraken_trades(conn)
    archive_all(conn, archive)
    (path,) = conn.execute("SELECT path FROM archived").fetchone()
    file = Path(storage.open(path))
    good = file.read_bytes()
    file.write_bytes(good[:2000] + b"x" + good[2001:])
    found = drop_old(conn, 30, storage)
    assert (found.chunks, found.kept, [path in why for why in found.wrong]) == (0, [], [True])
    file.unlink()
    found = drop_old(conn, 30, storage)
    assert (found.chunks, found.kept, [path in why for why in found.wrong]) == (0, [], [True])
    assert counts(conn)[0] == KRAKEN_TRADES
    last: dict[str, Any] = {"dropped_chunks": 0, "kept": [], "why": []}
    in_env(DATABASE_RETENTION_DAYS=30)
    assert retention._once(load(DatabaseSettings), threading.Event(), last)
    assert [path in why for why in last["why"]] == [True], "its /health says so"
    file.write_bytes(good)
    assert drop_old(conn, 30, storage) == Dropped(1)


def test_rows_that_came_after_the_file_keep_the_chunk(conn: Any, archive: Archive, storage: Folder) -> None:
    store_kraken_trades(conn)
    archive_all(conn, archive)
    late_trade(conn)
    assert drop_old(conn, 30, storage) == Dropped(0, ["trades of kraken BTC-USD 2025-11-01: changed since"])
    archive_all(conn, archive)
    assert drop_old(conn, 30, storage) == Dropped(1)


def late_trade(conn: Any) -> None:
    """One more trade behind the recorded ones, five minutes later."""
    last, moment = conn.execute(
        "SELECT upper(range_merge(ids)), extract(epoch FROM last_ts)::bigint FROM trade_coverage WHERE NOT isempty(ids)"
    ).fetchone()
    record = trades_record([trade(last, (moment + 300) * 1_000_000, price="1.5")], origin="repair")
    assert store(Trades(), conn, [received("trades", record)]) == (1, [])


def test_a_late_repair_of_dropped_ticks_is_read_at_once_and_moves_into_the_file(
    conn: Any, archive: Archive, storage: Folder
) -> None:
    store_kraken_trades(conn)
    archive_all(conn, archive)
    assert drop_old(conn, 30, storage) == Dropped(1)
    late_trade(conn)
    both = rows_everywhere(conn, archive, "trades")
    assert len(both) == KRAKEN_TRADES + 1
    assert nothing_wrong(conn)
    assert archive_all(conn, archive) == []
    assert counts(conn)[0] == 0, "it left the table in the transaction of the file"
    assert rows_everywhere(conn, archive, "trades") == both
    assert nothing_wrong(conn)


def test_a_corrected_hour_of_dropped_quotes_takes_the_place_of_the_old_one(
    conn: Any, archive: Archive, storage: Folder
) -> None:
    store_eurusd_day(conn)
    archive_all(conn, archive)
    assert drop_old(conn, 30, storage) == Dropped(1)
    (first_hour,) = conn.execute("SELECT ticks FROM quote_hours ORDER BY hour LIMIT 1").fetchone()
    start_us = to_us(EURUSD_DAY)
    hour = hour_bytes([1, 2], [114543, 114544], hour_start_us=start_us, fetched_at_us=start_us + 90_000_000_000)
    assert store(Hours(), conn, [received("quotes", hour)]) == (2, [])
    assert archive_all(conn, archive) == []
    rows = rows_everywhere(conn, archive, "quotes")
    assert len(rows) == EURUSD_QUOTES - first_hour + 2
    assert len([row for row in rows if row[2] < EURUSD_DAY + timedelta(hours=1)]) == 2
    assert counts(conn)[1] == 0
    assert nothing_wrong(conn)


def test_dropped_ticks_come_back_exactly_and_stay_as_long_as_was_asked(
    conn: Any, archive: Archive, storage: Folder, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("ARCHIVE_PATH", str(tmp_path / "archive"))
    store_eurusd_day(conn)
    store_kraken_trades(conn)
    before = texts(conn, "quotes")
    archive_all(conn, archive)
    assert drop_old(conn, 30, storage) == Dropped(2)
    for venue, product in (("dukascopy", "EURUSD"), ("kraken", "BTC-USD")):
        arguments = ["--venue", venue, "--product", product, "--from", "2019-02-04", "--to", "2026-01-01"]
        for rows in ("rows are back", "in the table already"):
            answer = CliRunner().invoke(restore_ticks.main, arguments, catch_exceptions=False)
            assert (answer.exit_code, rows in answer.output) == (0, True), answer.output
    assert texts(conn, "quotes") == before, "to the last written zero"
    assert counts(conn) == (KRAKEN_TRADES, EURUSD_QUOTES)
    assert nothing_wrong(conn)
    found = drop_old(conn, 30, storage)
    assert (found.chunks, {why.rpartition(": ")[2] for why in found.kept}) == (0, {"restored and pinned"})
    conn.execute("UPDATE archive_spans SET pinned_until = now()")
    assert drop_old(conn, 30, storage) == Dropped(2)
    arguments = ["--venue", "kraken", "--product", "ETH-USD", "--from", "2019-01-01", "--to", "2020-01-01"]
    assert CliRunner().invoke(restore_ticks.main, arguments).exit_code == 2
