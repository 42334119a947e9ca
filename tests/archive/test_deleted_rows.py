"""Rows that somebody deleted past the pipeline: no file takes their place, and a file brings them back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from consumers.archive import round_of
from consumers.quote_hours import Hours
from consumers.trades import Trades
from pipeline.archive.archive import Archive, Mismatch
from pipeline.archive.ledger import spans
from pipeline.archive.restore import restore
from pipeline.archive.storage import Folder
from pipeline.core.settings import ArchiveSettings
from pipeline.core.times import to_us
from pipeline.retention import drop_old
from pipeline.verify import verify
from tests.archive_help import (
    EURUSD_DAY,
    EURUSD_QUOTES,
    KRAKEN_TRADES,
    NOW,
    archive_all,
    rows_everywhere,
    store_eurusd_day,
    store_kraken_trades,
)
from tests.messages import hour_bytes, received, store, trade, trades_record


@pytest.fixture
def storage(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "archive")


def late_trade(conn: Any) -> None:
    last, moment = conn.execute(
        "SELECT upper(range_merge(ids)), extract(epoch FROM last_ts)::bigint FROM trade_coverage WHERE NOT isempty(ids)"
    ).fetchone()
    record = trades_record([trade(last, moment * 1_000_000 + 5, price="1.5")], origin="repair")
    assert store(Trades(), conn, [received("trades", record)]) == (1, [])


def late_hour(conn: Any) -> None:
    start_us = to_us(EURUSD_DAY)
    hour = hour_bytes([1, 2], [114543, 114544], hour_start_us=start_us, fetched_at_us=start_us + 90_000_000_000)
    assert store(Hours(), conn, [received("quotes", hour)]) == (2, [])


def nothing_wrong(conn: Any) -> bool:
    return [text for verdict in verify(conn) for text in verdict.wrong] == []


@pytest.mark.parametrize(
    ("kind", "stored", "later"), [("trades", store_kraken_trades, late_trade), ("quotes", store_eurusd_day, late_hour)]
)
def test_what_is_left_of_a_day_takes_the_place_of_no_file(
    conn: Any,
    archive: Archive,
    storage: Folder,
    tmp_path: Path,
    kind: Any,
    stored: Callable[[Any], None],
    later: Callable[[Any], None],
) -> None:
    """Prevents the loss of the only copy: somebody drops old chunks, a late repair makes the day due again, and what
    the table has by then becomes the file of the day."""
    stored(conn)
    archive_all(conn, archive)
    before = rows_everywhere(conn, archive, kind)
    conn.execute(f"SELECT drop_chunks('{kind}', now())")
    later(conn)
    with pytest.raises(Mismatch, match="somebody deleted"):
        archive_all(conn, archive)
    assert len(list((tmp_path / "archive").rglob("*.parquet"))) == 1
    (span,) = spans(conn, sql.SQL("true"), {})
    brought = restore(conn, storage, span, NOW + timedelta(days=30_000))
    after = rows_everywhere(conn, archive, kind)
    if kind == "trades":
        assert brought == KRAKEN_TRADES
        assert [row for row in after if row in before] == before
        assert len(after) == KRAKEN_TRADES + 1
    else:
        (first_hour,) = (len([row for row in before if row[2] < EURUSD_DAY + timedelta(hours=1)]),)
        assert len(after) == EURUSD_QUOTES - first_hour + 2, "not the hour that was replaced"
        assert brought == len(after) - 2
    assert archive_all(conn, archive) == []
    assert nothing_wrong(conn)
    assert restore(conn, storage, span, NOW) == 0


def test_a_day_of_which_somebody_deleted_rows_is_not_archived_as_if_it_were_whole(
    conn: Any, archive: Archive, tmp_path: Path
) -> None:
    """Prevents a file that is called complete, and others that are not written because of that day."""
    store_eurusd_day(conn)
    store_kraken_trades(conn)
    conn.execute("DELETE FROM quotes WHERE ts = (SELECT min(ts) FROM quotes)")
    done = round_of(archive, conn, ArchiveSettings(path=str(tmp_path / "archive")), threading.Event())
    assert (done.archived, done.rows, len(done.failed)) == (1, KRAKEN_TRADES, 1)
    assert "somebody deleted" in done.failed[0]


def test_a_span_that_the_database_refuses_costs_itself_only(
    conn: Any, archive: Archive, storage: Folder, tmp_path: Path
) -> None:
    """Prevents an archive that stands still, and a table that only grows, behind one span that cannot be read or
    written. A trigger stands for a damaged page."""
    settings = ArchiveSettings(path=str(tmp_path / "archive"))
    conn.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'invalid page' USING ERRCODE = 'data_corrupted'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON archive_files FOR EACH ROW WHEN (NEW.kind = 'quotes')
        EXECUTE FUNCTION refuse()""")
    store_eurusd_day(conn)
    store_kraken_trades(conn)
    done = round_of(archive, conn, settings, threading.Event())
    assert (done.archived, done.rows) == (1, KRAKEN_TRADES)
    assert "invalid page" in done.failed[0]
    conn.execute("DROP TRIGGER refuse ON archive_files")
    assert round_of(archive, conn, settings, threading.Event()).archived == 1
    conn.execute("""
        CREATE TRIGGER refuse BEFORE UPDATE ON archive_spans FOR EACH ROW WHEN (NEW.kind = 'quotes')
        EXECUTE FUNCTION refuse()""")
    found = drop_old(conn, 30, storage)
    assert (found.chunks, ["invalid page" in why for why in found.wrong]) == (1, [True])
