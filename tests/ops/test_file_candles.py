"""The candles of ticks that are in files alone are proven as those of ticks in the tables."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from consumers.quote_hours import Hours
from consumers.trades import Trades
from pipeline.archive.audit import audit
from pipeline.archive.storage import Folder
from pipeline.core.errors import Unavailable
from pipeline.core.times import to_us
from pipeline.ops.file_candles import recomputed
from pipeline.retention import drop_old
from pipeline.verify import verify
from tests.archive_help import EURUSD_DAY, archive_all, archive_in, reader_of, store_eurusd_day, store_kraken_trades
from tests.environment import Environment
from tests.messages import T0_US, hour_bytes, received, store, trade, trades_record


def dropped(conn: Any, storage: Folder, tmp_path: Path) -> None:
    assert archive_all(conn, archive_in(conn, tmp_path / "archive")) == []
    found = drop_old(conn, 30, storage)
    assert found.kept + found.wrong == []


def wrong(conn: Any, storage: Folder) -> dict[str, list[str] | None]:
    """What a session that may only read finds."""
    conn.execute("SET default_transaction_read_only = on")
    found = {one.kind: recomputed(conn, storage, one) for one in audit(conn, storage)}
    conn.execute("SET default_transaction_read_only = off")
    return found


def test_candles_of_files_are_compared_with_the_rows_of_the_files(conn: Any, storage: Folder, tmp_path: Path) -> None:
    """Prevents that a candle can say anything once its ticks were dropped from the tables."""
    store_eurusd_day(conn)
    store_kraken_trades(conn)
    assert archive_all(conn, archive_in(conn, tmp_path / "archive")) == []
    assert wrong(conn, storage) == {"trades": None, "quotes": None}, "the tables have them, verify compares these"
    dropped(conn, storage, tmp_path)
    assert wrong(conn, storage) == {"trades": [], "quotes": []}
    conn.execute("UPDATE trade_candle_1m SET turnover = turnover + 1e-30 WHERE bucket = (SELECT max(bucket) FROM"
                 " trade_candle_1m)")  # fmt: skip
    conn.execute("DELETE FROM quote_candle_1h WHERE extract(hour FROM bucket) = 9")
    conn.execute("UPDATE quote_hours SET ticks = ticks + 1 WHERE extract(hour FROM hour) = 7")
    found = wrong(conn, storage)
    assert found["trades"] is not None
    assert found["quotes"] is not None
    assert [" candle of " in text for text in found["trades"]] == [True]
    assert [text.split(" ")[0] for text in found["quotes"]] == ["hour", "the"]
    assert [text for v in verify(conn, storage=storage) for text in v.wrong] == [], "which does not read the files"


def test_values_that_need_more_than_64_bits_are_exact(conn: Any, storage: Folder, tmp_path: Path) -> None:
    """Prevents a false alarm from numbers that are rounded on their way into the comparison."""
    values = [("9876543210.123456789012345678", "0.000000000000000001"), ("0.000000000000000003", "1234567890.5")]
    trades = [trade(number, T0_US + number, *both) for number, both in enumerate(values, 1)]
    assert store(Trades(), conn, [received("trades", trades_record(trades, origin="history"))]) == (2, [])
    dropped(conn, storage, tmp_path)
    assert wrong(conn, storage) == {"trades": []}


def test_rows_that_came_after_the_file_count(conn: Any, storage: Folder, tmp_path: Path) -> None:
    """Prevents a false alarm while a repair, or a corrected hour, waits in the table for its file."""
    store_eurusd_day(conn)
    store_kraken_trades(conn)
    dropped(conn, storage, tmp_path)
    start_us = to_us(EURUSD_DAY)
    hour = hour_bytes([1, 2], [114543, 114544], hour_start_us=start_us, fetched_at_us=start_us + 90_000_000_000)
    assert store(Hours(), conn, [received("quotes", hour)]) == (2, [])
    last, at = conn.execute(
        "SELECT upper(range_merge(ids)), last_ts FROM trade_coverage WHERE NOT isempty(ids)"
    ).fetchone()
    late = trades_record([trade(last, to_us(at) + 1, price="1.5")], origin="repair")
    assert store(Trades(), conn, [received("trades", late)]) == (1, [])
    assert wrong(conn, storage) == {"trades": [], "quotes": []}
    assert conn.execute("SELECT count(*) FROM trades").fetchone() == (1,), "what stood in for the table is gone"


def test_a_reader_is_told_what_was_not_done(
    conn: Any, storage: Folder, tmp_path: Path, database_url: str, env: Environment, python: str
) -> None:
    """Prevents an error, or silence, where the role may not create the temporary table."""
    store_kraken_trades(conn)
    dropped(conn, storage, tmp_path)
    with reader_of(database_url) as url:
        environment = env(ARCHIVE_PATH=tmp_path / "archive", DATABASE_URL=url)
        command = [python, "-m", "pipeline.verify", "--archive"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("no candles are recomputed")) == (0, 1), done.stderr
    assert "candles" not in done.stdout


def test_a_storage_that_does_not_answer_is_no_proof(conn: Any, storage: Folder, tmp_path: Path) -> None:
    """Prevents that files of which nobody knows whether they are there count as there, or as gone."""

    class Silent(Folder):
        def has(self, path: str) -> bool:
            raise OSError("timeout")

    store_kraken_trades(conn)
    dropped(conn, storage, tmp_path)
    with pytest.raises(Unavailable, match="cannot be looked for: timeout"):
        list(verify(conn, storage=Silent(tmp_path / "archive")))


def test_files_that_alone_hold_rows_are_looked_for_wherever_verify_is_called(
    conn: Any, storage: Folder, tmp_path: Path
) -> None:
    """Prevents "proven" about rows that are nowhere, for a program that calls `verify` without naming the storage."""
    store_kraken_trades(conn)
    dropped(conn, storage, tmp_path)
    assert [text for v in verify(conn) for text in v.wrong] == []
    for (path,) in conn.execute("SELECT path FROM archived").fetchall():
        (tmp_path / "archive" / path).unlink()
    (text,) = (text for v in verify(conn) for text in v.wrong)
    assert "it alone has" in text


def test_a_gap_between_files_belongs_to_its_time(conn: Any, storage: Folder, tmp_path: Path) -> None:
    """Prevents that missing trades are hidden because their neighbours are in files alone, and the other extreme."""
    day = timedelta(days=1)
    for first, at_us in ((1, T0_US), (100, T0_US + 2 * 86_400_000_000)):
        record = trades_record([trade(first + n, at_us + n) for n in range(10)], origin="history")
        assert store(Trades(), conn, [received("trades", record)]) == (10, [])
    conn.execute("UPDATE trade_coverage SET asked = ids, live_from = NULL")
    dropped(conn, storage, tmp_path)
    conn.execute("UPDATE trade_coverage SET asked = '{[1,110)}'")
    (start,) = conn.execute("SELECT min(first_ts) FROM archived").fetchone()

    def gaps(first: timedelta, last: timedelta) -> list[str]:
        return [text for v in verify(conn, None, None, start + first, start + last) for text in v.wrong]

    missing = ["ids 11 to 99 are neither stored nor explained"]
    assert [gaps(0.5 * day, 0.6 * day), gaps(-day, day), gaps(1.9 * day, 3 * day)] == [missing] * 3
    assert [gaps(-9 * day, -8 * day), gaps(2.1 * day, 3 * day)] == [[], []]
