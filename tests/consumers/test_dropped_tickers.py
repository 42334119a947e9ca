"""Tickers that come again after retention dropped their rows. No broker here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from consumers.tickers import Tickers
from pipeline.archive.ledger import spans
from pipeline.archive.restore import restore
from pipeline.archive.storage import Folder
from pipeline.core.runtime import now_us
from pipeline.core.times import from_us
from pipeline.retention import Dropped, drop_old
from tests.archive_help import archive_all, archive_in
from tests.messages import T0_US, received, store, ticker_record

OLD = [ticker_record(T0_US + second * 1_000_000) for second in range(3)]
YOUNG = ticker_record(now_us() - 5_000_000)
REFUSED = [("dropped", record["timestamp_us"]) for record in OLD]


def put(conn: Any, *records: Any) -> tuple[int, list[tuple[str, Any]]]:
    """New rows; reason and time of the refused ones."""
    rows, letters = store(Tickers(), conn, [received("ticker", record) for record in records])
    return rows, [(letter.reason, letter.content.timestamp_us) for letter in letters]


@pytest.mark.parametrize("archived", [True, False])
def test_a_ticker_whose_row_was_dropped_is_refused(conn: Any, tmp_path: Path, archived: bool) -> None:
    """Prevents a candle that counts a ticker twice for good, because its row is in a file only or in none: and a ticker
    that vanishes without a word."""
    assert put(conn, *OLD, YOUNG) == (4, [])
    archive = archive_in(conn, tmp_path / "archive")
    if archived:
        archive_all(conn, archive)
    storage = Folder(tmp_path / "archive")
    assert drop_old(conn, 30, storage, without_archive=not archived) == Dropped(1)
    new = ticker_record(now_us() - 4_000_000)
    assert put(conn, OLD[0], new, *OLD[1:], YOUNG) == (1, REFUSED)
    assert conn.execute("SELECT sum(ticks) FROM quote_candle_1h").fetchone() == (5,)
    assert conn.execute("SELECT count(*) FROM quotes").fetchone() == (2,)


def test_restored_rows_are_compared_again(conn: Any, tmp_path: Path) -> None:
    """Prevents good tickers from being refused once their day is back in the tables."""
    put(conn, *OLD)
    archive = archive_in(conn, tmp_path / "archive")
    archive_all(conn, archive)
    storage = Folder(tmp_path / "archive")
    assert drop_old(conn, 30, storage) == Dropped(1)
    assert put(conn, *OLD) == (0, REFUSED)
    (span,) = spans(conn, sql.SQL("NOT in_tables"), {})
    restore(conn, storage, span, from_us(now_us()))
    late = ticker_record(T0_US + 3_000_000)
    assert put(conn, *OLD, late) == (1, [])
    assert conn.execute("SELECT ticks FROM quote_candle_1h").fetchall() == [(4,)]


def test_time_missed_counts_although_its_ticker_is_refused(conn: Any, tmp_path: Path) -> None:
    """Prevents a pause of the listener that is forgotten with the ticker that told of it."""
    put(conn, *OLD)
    assert drop_old(conn, 30, Folder(tmp_path / "archive"), without_archive=True) == Dropped(1)
    assert put(conn, OLD[1] | {"missed_since_us": T0_US}) == (0, REFUSED[1:2])
    assert conn.execute("SELECT reason FROM holes").fetchall() == [("not_listening",)]
