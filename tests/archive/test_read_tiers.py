"""Readers get each row once and exactly, in whichever tier it is, also while it changes tiers."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from consumers.quote_hours import Hours
from consumers.trades import Trades
from pipeline import duckdb, read
from pipeline.archive import ledger, tiers
from pipeline.archive.archive import Archive
from pipeline.archive.audit import audit
from pipeline.archive.certificate import certificate
from pipeline.archive.open import open_storage
from pipeline.core.errors import Unavailable
from pipeline.core.settings import ArchiveSettings, DatabaseSettings, load
from pipeline.core.times import to_us
from pipeline.database.connection import connect
from pipeline.read.columns import EXACT, TIME, floats
from tests.archive_help import (
    EURUSD_DAY,
    EURUSD_QUOTES,
    archive_all,
    drop_from_tables,
    reader_of,
    store_eurusd_day,
    store_kraken_trades,
)
from tests.messages import hour_bytes, received, store, trade, trades_record

QUOTES = ("dukascopy", "EURUSD")
TRADES = ("kraken", "BTC-USD")
DAY = timedelta(days=1)


@pytest.fixture
def conn(database_url: str, in_env: Callable[..., None], tmp_path: Path) -> Any:
    in_env(ARCHIVE_PATH=tmp_path / "archive")
    with psycopg.connect(database_url, autocommit=True) as made:
        yield made


def stored(conn: Any) -> pa.Table:
    """The table's quotes, by way of psql's own columns."""
    rows = conn.execute("SELECT ts, bid, ask, bid_size, ask_size FROM quotes ORDER BY ts, seq").fetchall()
    types = [TIME, EXACT, EXACT, EXACT, EXACT]
    columns = [pa.array(column, type_) for column, type_ in zip(zip(*rows, strict=True), types, strict=True)]
    return pa.table(columns, ["time", "bid", "ask", "bid_size", "ask_size"])


def between(table: pa.Table, low: datetime, high: datetime) -> pa.Table:
    times = table["time"]
    return table.filter(pc.and_(pc.greater_equal(times, low), pc.less(times, high)))


def reads(expected: pa.Table, start: Any = None, end: Any = None) -> bool:
    """Whether all ways of reading give these rows, as decimals and as the floats next to them."""
    near = pa.table([expected["time"], *map(floats, expected.columns[1:])], expected.column_names)
    return all(
        read.quotes(*QUOTES, start, end, exact=exact).arrow().equals(table)
        and read.scan_quotes(*QUOTES, start, end, exact=exact).collect().equals(polars.from_arrow(table))
        for exact, table in ((True, expected), (False, near))
    )


def test_quotes_are_the_same_in_every_tier(conn: Any, archive: Archive) -> None:
    for day in range(3):
        store_eurusd_day(conn, EURUSD_DAY + day * DAY)
    expected = stored(conn)
    assert reads(expected), "in the tables"
    archive_all(conn, archive, EURUSD_DAY + 2 * DAY)
    assert len(ledger.spans(conn, sql.SQL("true"), {})) == 2
    assert reads(expected), "two days in both"
    drop_from_tables(conn, EURUSD_DAY + DAY, EURUSD_DAY + 2 * DAY)
    assert len(stored(conn)) == 2 * EURUSD_QUOTES
    assert reads(expected), "the second in its file only"
    drop_from_tables(conn, EURUSD_DAY, EURUSD_DAY + DAY)
    assert reads(expected)
    low, high = EURUSD_DAY + timedelta(hours=10), EURUSD_DAY + timedelta(days=2, hours=3, minutes=7)
    assert reads(between(expected, low, high), low, high)
    assert reads(expected.slice(0, 0), end=EURUSD_DAY)


def test_trades_that_came_after_their_day_was_dropped_are_read_with_it(conn: Any, archive: Archive) -> None:
    store_kraken_trades(conn)
    archive_all(conn, archive)
    (moment, last) = conn.execute("SELECT min(ts), max(trade_id) FROM trades").fetchone()
    drop_from_tables(conn, datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
    before = read.trades(*TRADES, exact=True).arrow()
    late = trades_record([trade(last + 1, to_us(moment), "1.25", "3")], origin="repair")
    assert store(Trades(), conn, [received("trades", late)]) == (1, [])
    after = read.trades(*TRADES, exact=True)
    assert len(after) == len(before) + 1
    assert after["trade_id"][:2].tolist() == [before["trade_id"][0].as_py(), last + 1], "by time, then id"
    assert after["price"][1] == Decimal("1.25")
    assert sorted(after["trade_id"].tolist()) == [*before["trade_id"].to_pylist(), last + 1]
    assert read.scan_trades(*TRADES, exact=True).collect().equals(after.polars())
    near = read.trades(*TRADES)
    assert near["price"].tolist() == [float(value) for value in after["price"]]
    assert near["taker_side"].tolist() == after["taker_side"].tolist()
    assert archive_all(conn, archive) == []
    assert read.trades(*TRADES, exact=True).arrow().equals(after.arrow()), "and again when they are in its file"


def test_an_hour_that_was_corrected_after_it_was_dropped_is_read_once(conn: Any, archive: Archive) -> None:
    store_eurusd_day(conn)
    others = between(stored(conn), EURUSD_DAY + timedelta(hours=1), EURUSD_DAY + DAY)
    archive_all(conn, archive)
    drop_from_tables(conn, EURUSD_DAY, EURUSD_DAY + DAY)
    start_us = to_us(EURUSD_DAY)
    hour = hour_bytes([1, 2], [114543, 114544], hour_start_us=start_us, fetched_at_us=start_us + 90_000_000_000)
    assert store(Hours(), conn, [received("quotes", hour)]) == (2, [])
    assert reads(pa.concat_tables([stored(conn), others]))
    conn.execute("DELETE FROM quotes")  # as if the vendor had no quotes of that hour any more
    assert reads(others)


def test_a_drop_waits_for_who_reads_the_table(conn: Any, archive: Archive, database_url: str) -> None:
    """A chunk that is dropped is gone for older snapshots too: rows that the ledger said were in the table."""
    store_eurusd_day(conn)
    with psycopg.connect(database_url, autocommit=True) as reader, psycopg.connect(database_url) as other:
        (pid,) = other.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        drop = threading.Thread(target=lambda: other.execute("SELECT drop_chunks('quotes', '2020-01-01'::timestamptz)"))
        with tiers.snapshot(reader, "quotes"):
            drop.start()
            waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = %s AND NOT granted)"
            while conn.execute(waiting, (pid,)).fetchone() != (True,):
                assert drop.is_alive()
            assert reader.execute("SELECT count(*) FROM quotes").fetchone() == (EURUSD_QUOTES,)
        drop.join()
        other.commit()
    assert conn.execute("SELECT count(*) FROM quotes").fetchone() == (0,)


def test_rows_whose_files_are_elsewhere_come_from_the_tables_or_not_at_all(
    conn: Any, archive: Archive, in_env: Callable[..., None], tmp_path: Path
) -> None:
    """A part that is left out silently is worse than an error."""
    store_eurusd_day(conn)
    archive_all(conn, archive)
    in_env(ARCHIVE_PATH=tmp_path / "elsewhere")
    assert len(read.quotes(*QUOTES)) == EURUSD_QUOTES
    drop_from_tables(conn, EURUSD_DAY, EURUSD_DAY + DAY)
    with pytest.raises(Unavailable, match="set ARCHIVE_PATH to where they are"):
        read.quotes(*QUOTES)
    with pytest.raises(Unavailable, match="set ARCHIVE_PATH to where they are"):
        read.scan_quotes(*QUOTES)


def test_who_may_only_read_can_read_everything(
    conn: Any, archive: Archive, database_url: str, in_env: Callable[..., None], tmp_path: Path
) -> None:
    """A lock or a catalog that asks for more rights than a notebook's role has."""
    for day in range(2):
        store_eurusd_day(conn, EURUSD_DAY + day * DAY)
    archive_all(conn, archive, EURUSD_DAY + DAY)
    with reader_of(database_url) as url:
        in_env(ARCHIVE_PATH=tmp_path / "archive", DATABASE_URL=url)
        assert len(read.quotes(*QUOTES)) == 2 * EURUSD_QUOTES
        assert read.scan_quotes(*QUOTES).select(polars.len()).collect().item() == 2 * EURUSD_QUOTES
        with duckdb.connect() as duck:
            assert duck.execute("SELECT count(*) FROM quotes").fetchone() == (EURUSD_QUOTES,)
            assert duck.execute("SELECT count(*) FROM db.quotes").fetchone() == (2 * EURUSD_QUOTES,)
        with connect(load(DatabaseSettings), "test", read_only=True) as reader:
            storage = open_storage(load(ArchiveSettings))
            assert certificate(reader, storage, "dukascopy", "EUR-USD", EURUSD_DAY).complete
            assert [one.wrong for one in audit(reader, storage)] == [[]]


def test_a_file_that_is_not_what_the_ledger_knows_is_an_error(conn: Any, archive: Archive, tmp_path: Path) -> None:
    store_eurusd_day(conn)
    store_eurusd_day(conn, EURUSD_DAY + DAY)
    archive_all(conn, archive)
    first, second = sorted((tmp_path / "archive").rglob("*.parquet"))
    first.write_bytes(first.read_bytes()[:-100])
    with pytest.raises(Unavailable, match="cannot be read"):
        read.quotes(*QUOTES)
    first.unlink()
    with pytest.raises(Unavailable, match="cannot be read"):
        read.quotes(*QUOTES)
    assert len(read.quotes(*QUOTES, start=EURUSD_DAY + DAY)) == EURUSD_QUOTES, second


@given(
    st.lists(st.integers(-(10**18) + 1, 10**18 - 1), max_size=20),
    st.sampled_from([(18, 0), (18, 5), (18, 18), (38, 18), (9, 5)]),
)
def test_floats_are_the_nearest_ones(values: list[int], of: tuple[int, int]) -> None:
    """What a notebook computes must not depend on the tier that a price came from."""
    precision, scale = of
    exact = [Decimal(value % 10 ** min(precision, 18)).scaleb(-scale) for value in values]
    column = pa.chunked_array([pa.array(exact, pa.decimal128(precision, scale))])
    assert floats(column).to_pylist() == [float(value) for value in exact]
    assert floats(column.slice(1)).to_pylist() == [float(value) for value in exact[1:]]


def test_arrow_numpy_and_frames_have_one_schema_whether_there_are_rows_or_not(conn: Any, archive: Archive) -> None:
    """Frames of two months that cannot be put together because one was empty or had fewer decimals."""
    store_eurusd_day(conn)
    store_kraken_trades(conn)
    for exact in (False, True):
        for of, asked in ((read.quotes, QUOTES), (read.trades, TRADES)):
            full, empty = of(*asked, exact=exact), of(*asked, end="2000-01-01", exact=exact)
            assert full.arrow().schema == empty.arrow().schema
            assert full.polars().schema == empty.polars().schema
            assert {name: column.dtype.kind for name, column in full.numpy().items()} == {
                name: column.dtype.kind for name, column in empty.numpy().items()
            }
            assert len(empty.pandas()) == 0
    number = read.quotes(*QUOTES, exact=True).arrow().schema.field("bid").type
    assert number == pa.decimal128(38, 18)
    assert read.quotes(*QUOTES)["time"].dtype == np.dtype("datetime64[us]")


def test_a_damaged_file_is_never_read_as_other_values(conn: Any, archive: Archive, tmp_path: Path) -> None:
    """Prevents wrong prices and times from a bad disk: without checksums two of three flipped bits went unnoticed."""
    store_eurusd_day(conn)
    archive_all(conn, archive)
    drop_from_tables(conn, EURUSD_DAY, EURUSD_DAY + timedelta(days=1))
    (path,) = conn.execute("SELECT path FROM archived").fetchone()
    file = tmp_path / "archive" / path
    good, chance = file.read_bytes(), random.Random(1)
    right = read.quotes("dukascopy", "EUR-USD").arrow()
    footer, refused = len(good) - 8 - int.from_bytes(good[-8:-4], "little"), 0
    for place in [*(chance.randrange(4, footer) for _ in range(20)), *range(footer, len(good), 40)]:
        bad = bytearray(good)
        bad[place] ^= 1 << chance.randrange(8)
        file.write_bytes(bad)
        try:
            found = read.quotes("dukascopy", "EUR-USD").arrow()
        except Unavailable:
            refused += place < footer
            continue
        assert found == right, "a column that is not asked for, or a statistic"
    assert refused > 10
    file.write_bytes(good)
    assert read.quotes("dukascopy", "EUR-USD").arrow() == right


def test_another_file_in_the_place_of_one_is_not_read(conn: Any, archive: Archive, tmp_path: Path) -> None:
    """Prevents another day's rows, cut to nothing, where a copy went wrong."""
    store_eurusd_day(conn)
    store_eurusd_day(conn, EURUSD_DAY + timedelta(days=1))
    archive_all(conn, archive)
    drop_from_tables(conn, EURUSD_DAY, EURUSD_DAY + timedelta(days=2))
    first, second = (
        tmp_path / "archive" / path for (path,) in conn.execute("SELECT path FROM archived ORDER BY from_ts")
    )
    first.write_bytes(second.read_bytes())
    with pytest.raises(Unavailable, match="it says that it is"):
        read.quotes("dukascopy", "EUR-USD")


def test_the_widest_decimals_are_archived_exactly(conn: Any, archive: Archive) -> None:
    """Prevents days that are never archived because a sum of theirs was rounded to Python's 28 digits."""
    prices = ["9876543210987654.123456789012345678", "9876543210987653.999999999999999999", "0.000000000000000001"]
    at = to_us(EURUSD_DAY)
    store(
        Trades(), conn, [received("trades", trades_record([trade(n, at + n, price=p) for n, p in enumerate(prices)]))]
    )
    archive_all(conn, archive)
    drop_from_tables(conn, EURUSD_DAY, EURUSD_DAY + timedelta(days=31))
    found = read.trades("kraken", "BTC-USD", exact=True).arrow()["price"].to_pylist()
    assert found == [Decimal(price) for price in prices]
