"""What the archive promises of a span: archived when it is complete, again when it changed, never lost or doubled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from consumers.quote_hours import Hours
from consumers.tickers import Tickers
from consumers.trades import Trades
from pipeline.archive import files, ledger
from pipeline.archive.archive import Archive, Mismatch, check
from pipeline.archive.due import due
from pipeline.archive.layout import LAYOUTS
from pipeline.archive.storage import Folder
from pipeline.core.times import from_us, to_us
from tests.archive_help import (
    EURUSD_DAY,
    EURUSD_QUOTES,
    KRAKEN_TRADES,
    NOW,
    archive_all,
    rows_everywhere,
    store_candles,
    store_eurusd_day,
    store_kraken_trades,
)
from tests.messages import T0_US, hour_bytes, received, store, ticker_record, trade, trades_record

DAY_US = 86_400_000_000


def archived(conn: Any) -> list[tuple[Any, ...]]:
    query = "SELECT kind, rows, revision, up_to_date, in_tables FROM archived ORDER BY from_ts, kind"
    return list(conn.execute(query).fetchall())


def many_trades(first_id: int, day_us: int, count: int = 1500) -> Any:
    step = DAY_US // count
    trades = [trade(first_id + n, day_us + n * step) for n in range(count)]
    return received("trades", trades_record(trades, origin="history"))


def test_recorded_days_are_archived_and_nothing_is_due_any_more(conn: Any, archive: Archive) -> None:
    store_eurusd_day(conn)
    store_kraken_trades(conn)
    before = {kind: rows_everywhere(conn, archive, kind) for kind in ("trades", "quotes")}
    assert archive_all(conn, archive) == []
    assert archived(conn) == [("quotes", EURUSD_QUOTES, 0, True, True), ("trades", KRAKEN_TRADES, 0, True, True)]
    spans = conn.execute("SELECT kind, to_ts - from_ts FROM archived ORDER BY 1").fetchall()
    assert spans == [("quotes", timedelta(days=1)), ("trades", timedelta(days=30))], "the thin one has a month"
    assert due(conn, NOW) == []
    assert {kind: rows_everywhere(conn, archive, kind) for kind in ("trades", "quotes")} == before


def test_a_day_with_a_gap_waits_until_it_is_repaired(conn: Any, archive: Archive) -> None:
    """A file must not stand for a day that the ledger does not account for."""
    start = T0_US // DAY_US * DAY_US
    for day in range(3):
        store(Trades(), conn, [many_trades(1 + day * 30_000, start + day * DAY_US, 30_000)])
    of_its_hour = "bucket = (SELECT time_bucket('1 hour', ts) FROM trades WHERE trade_id = 40000)"
    conn.execute(f"UPDATE trade_candle_1h SET ticks = ticks - 1 WHERE {of_its_hour}")
    conn.execute("DELETE FROM trades WHERE trade_id = 40000")
    conn.execute("UPDATE trade_coverage SET ids = ids - '{[40000,40001)}', rows = rows - 1, live_from = NULL")
    assert [(one.span.from_ts.day, one.waits_for) for one in archive_all(conn, archive)] == [
        (from_us(start).day + 1, "missing ids")
    ]
    assert len(archived(conn)) == 2
    store(Trades(), conn, [received("trades", trades_record([trade(40000, start + DAY_US + 28_800_000_000)]))])
    assert archive_all(conn, archive) == []
    assert [row[1] for row in archived(conn)] == [30_000] * 3


def test_a_late_trade_makes_a_new_version_and_the_old_file_goes_after_its_grace(
    conn: Any, archive: Archive, tmp_path: Path
) -> None:
    store_kraken_trades(conn)
    archive_all(conn, archive)
    (last,) = conn.execute("SELECT max(trade_id) FROM trades").fetchone()
    (moment,) = conn.execute("SELECT extract(epoch FROM max(ts))::bigint FROM trades").fetchone()
    late = trades_record([trade(last + 1, moment * 1_000_000)], origin="repair")
    assert store(Trades(), conn, [received("trades", late)]) == (1, [])
    assert archived(conn) == [("trades", KRAKEN_TRADES, 0, False, True)]
    archive_all(conn, archive)
    assert archived(conn) == [("trades", KRAKEN_TRADES + 1, 1, True, True)]
    assert store(Trades(), conn, [received("trades", late)])[0] == 0
    assert archived(conn) == [("trades", KRAKEN_TRADES + 1, 1, True, True)], "what is stored already changes nothing"
    kept = list((tmp_path / "archive").rglob("*.parquet"))
    assert len(kept) == 2
    assert archive.sweep() == 0
    assert archive.sweep(grace_s=0) == 1
    assert len(list((tmp_path / "archive").rglob("*.parquet"))) == 1
    assert conn.execute("SELECT count(*) FROM lake.ducklake_data_file").fetchone() == (1,)
    assert archive.sweep(grace_s=0) == 0


@pytest.mark.parametrize("kind", ["quotes", "tickers", "exchange_candles"])
def test_changes_of_every_kind_are_counted(conn: Any, archive: Archive, database_url: str, kind: str) -> None:
    """A writer that forgets to count makes an archive that is silently out of date."""
    if kind == "quotes":
        store_eurusd_day(conn)
    elif kind == "tickers":
        assert store(Tickers(), conn, [received("ticker", ticker_record())]) == (1, [])
    else:
        store_candles(conn, close="101")
    archive_all(conn, archive)
    assert [row[3] for row in archived(conn)] == [True]
    with psycopg.connect(database_url, autocommit=True) as writer:
        writer.execute("SET ROLE market_data_writer")
        if kind == "quotes":
            store_hour_again(writer)
        elif kind == "tickers":
            assert store(Tickers(), writer, [received("ticker", ticker_record(seq=1))]) == (1, [])
        else:
            store_candles(writer, close="102")
    assert [row[3] for row in archived(conn)] == [False]
    archive_all(conn, archive)
    assert [row[2:4] for row in archived(conn)] == [(1, True)]


def store_hour_again(conn: Any) -> None:
    """The vendor corrects the first hour of the recorded day: two quotes, fetched later."""
    start_us = to_us(EURUSD_DAY)
    hour = hour_bytes([1, 2], [114543, 114544], hour_start_us=start_us, fetched_at_us=start_us + 90_000_000_000)
    assert store(Hours(), conn, [received("quotes", hour)]) == (2, [])


def test_rows_that_come_while_the_file_is_written_are_never_left_out(
    conn: Any, archive: Archive, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_kraken_trades(conn)
    (last,) = conn.execute("SELECT max(trade_id) FROM trades").fetchone()
    (moment,) = conn.execute("SELECT extract(epoch FROM max(ts))::bigint FROM trades").fetchone()
    real = files.write

    def write(*arguments: Any) -> files.Written:
        made = real(*arguments)
        with psycopg.connect(database_url, autocommit=True) as other:
            late = trades_record([trade(last + 1, moment * 1_000_000)], origin="repair")
            assert store(Trades(), other, [received("trades", late)]) == (1, [])
        return made

    (one,) = due(conn, NOW)
    monkeypatch.setattr(files, "write", write)
    assert archive.archive(one.span) is None
    assert archived(conn) == []
    assert list((tmp_path / "archive").rglob("*.parquet")) == []
    monkeypatch.setattr(files, "write", real)
    archive_all(conn, archive)
    assert archived(conn) == [("trades", KRAKEN_TRADES + 1, 0, True, True)]


def test_a_file_that_is_not_what_was_written_is_not_committed(
    conn: Any, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_kraken_trades(conn)
    (one,) = due(conn, NOW)
    real = files.write

    def write(file: Path, *arguments: Any) -> files.Written:
        made = real(file, *arguments)
        content = bytearray(file.read_bytes())
        content[len(content) // 3] ^= 1
        file.write_bytes(content)
        return made

    monkeypatch.setattr(files, "write", write)
    with pytest.raises(Mismatch):
        archive.archive(one.span)
    assert archived(conn) == []
    assert list((tmp_path / "archive").rglob("*.parquet")) == []
    assert ledger.left_behind(conn) == []


def test_a_full_disk_loses_nothing_and_is_said(
    conn: Any, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_kraken_trades(conn)
    (one,) = due(conn, NOW)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            archive.archive(one.span)
    assert archived(conn) == []
    assert [file for file in (tmp_path / "archive").rglob("*") if file.is_file()] == []
    assert archive_all(conn, archive) == []
    assert [row[1] for row in archived(conn)] == [KRAKEN_TRADES]


def test_what_a_killed_writer_left_is_swept(conn: Any, archive: Archive, tmp_path: Path) -> None:
    store_kraken_trades(conn)
    (one,) = due(conn, NOW)
    begun = ledger.begin(conn, one.span)
    left = tmp_path / "archive" / begun.path
    left.parent.mkdir(parents=True)
    left.touch()
    foreign = left.with_name("2019-02-04.r0.00000000.parquet")
    foreign.touch()
    assert archive.sweep() == 1
    assert not left.exists()
    assert foreign.exists(), "of a file that it does not know it cannot tell whether somebody needs it"
    assert archive_all(conn, archive) == []


def test_thin_instruments_wait_for_the_end_of_their_month(conn: Any, archive: Archive) -> None:
    store_kraken_trades(conn)
    (waits,) = archive_all(conn, archive, datetime(2025, 11, 20, tzinfo=UTC))
    assert waits.waits_for == "the end of the month, because it is thin"
    assert archive_all(conn, archive, datetime(2025, 12, 1, tzinfo=UTC)) == []
    assert [row[1] for row in archived(conn)] == [KRAKEN_TRADES]


def test_sums_and_hash_of_a_file_are_read_from_the_file(conn: Any, archive: Archive, tmp_path: Path) -> None:
    store_kraken_trades(conn)
    archive_all(conn, archive)
    (path, told) = conn.execute("SELECT path, hash FROM archived").fetchone()
    found = check(Folder(tmp_path / "archive"), path, LAYOUTS["trades"])
    assert found.hash == told
    assert found.sums == dict(
        zip(("price", "quantity"), conn.execute("SELECT sum(price), sum(quantity) FROM trades").fetchone(), strict=True)
    )
