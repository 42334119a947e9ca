"""Files and catalog of the archive: exact, as small as promised, and understood by stock DuckDB."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow.parquet as pq
import pytest

from consumers.trades import Trades
from pipeline.archive import catalog, files, rows
from pipeline.archive.hash import RowsHash
from pipeline.archive.layout import Kind, Span, day_of, month_of, new_path
from pipeline.archive.storage import Folder
from pipeline.core.times import from_us
from tests.archive_help import (
    EURUSD_DAY,
    EURUSD_QUOTES,
    KRAKEN_TRADES,
    lake,
    reader_of,
    store_eurusd_day,
    store_kraken_trades,
)
from tests.messages import T0_US, received, store, trade, trades_record


def span_of(conn: Any, kind: Kind, *, month: bool = False) -> Span:
    """The span of the first stored row of a kind."""
    instrument, venue, product, moment = conn.execute(
        f"SELECT instrument_id, venue, product_id, min(ts) FROM {kind} JOIN instruments USING (instrument_id)"
        " GROUP BY 1, 2, 3"
    ).fetchone()
    return Span(instrument, venue, product, kind, *(month_of if month else day_of)(moment))


def written(conn: Any, span: Span, file: Path) -> tuple[rows.Survey, files.Written]:
    with conn.transaction():
        found = rows.survey(conn, span)
        schema = files.schema_of(span.layout, found.types)
        return found, files.write(file, span, 0, schema, rows.pieces(conn, span, found.types))


@pytest.mark.parametrize(
    ("kind", "fill", "count", "most"),
    [("quotes", store_eurusd_day, EURUSD_QUOTES, 5.5), ("trades", store_kraken_trades, KRAKEN_TRADES, 12.0)],
)
def test_recorded_days_take_the_promised_bytes_and_come_back_exactly(
    database_url: str, tmp_path: Path, kind: Kind, fill: Any, count: int, most: float
) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        fill(conn)
        span = span_of(conn, kind, month=True)  # the recorded trades end on the day after
        found, made = written(conn, span, tmp_path / "day.parquet")
        decimals = span.layout.named("decimal")
        names = ", ".join(column.name for column in span.layout.columns)
        stored = conn.execute(f"SELECT {names} FROM {kind} ORDER BY {', '.join(span.layout.order)}").fetchall()
    assert found.rows == made.rows == count
    print(f"{kind}: {made.bytes / count:.2f} bytes a row")
    assert made.bytes / count <= most
    assert files.hash_of(tmp_path / "day.parquet", span.layout) == (made.hash, count)
    table = pq.read_table(tmp_path / "day.parquet")
    kept = [tuple(row.values())[2:] for row in table.to_pylist()]
    assert kept == stored
    assert {name: sum(table[name].to_pylist()) for name in decimals} == found.sums


def test_numbers_of_every_size_survive(database_url: str, tmp_path: Path) -> None:
    """What fits no 64-bit integer must not be rounded or cut."""
    values = ["9999999999999999.999999999999999999", "0.000000000000000001", "1.10", "123456789.123456789", "1"]
    with psycopg.connect(database_url, autocommit=True) as conn:
        trades = [trade(n, price=value, quantity=value) for n, value in enumerate(values, 1)]
        assert store(Trades(), conn, [received("trades", trades_record(trades))]) == (len(values), [])
        span = span_of(conn, "trades", month=True)
        made = written(conn, span, tmp_path / "month.parquet")[1]
    table = pq.read_table(tmp_path / "month.parquet")
    assert table["price"].to_pylist() == [Decimal(value) for value in values]
    digest = RowsHash(span.layout)
    for number in range(len(table)):  # in pieces of any size
        digest.update(table.slice(number, 1))
    assert digest.hexdigest() == made.hash


def test_the_hash_is_that_of_the_values_not_of_their_types(database_url: str, tmp_path: Path) -> None:
    hashes = set()
    for price in ("1.10", "1.1", "1.100000000000000000"):
        with psycopg.connect(database_url, autocommit=True) as conn:
            conn.execute("TRUNCATE trades; UPDATE trade_coverage SET ids = '{}', rows = 0")
            store(Trades(), conn, [received("trades", trades_record([trade(1, price=price)]))])
            hashes.add(written(conn, span_of(conn, "trades"), tmp_path / f"{price}.parquet")[1].hash)
    assert len(hashes) == 1


def test_stock_duckdb_reads_what_was_committed_and_only_the_files_it_needs(database_url: str, tmp_path: Path) -> None:
    days = [EURUSD_DAY, EURUSD_DAY + timedelta(days=1)]
    storage = Folder(tmp_path / "archive")
    with psycopg.connect(database_url, autocommit=True) as conn:
        for day in days:
            store_eurusd_day(conn, day)
        store_kraken_trades(conn)
        catalog.set_data_path(conn, storage.address)
        first = span_of(conn, "quotes")
        spans = [first, Span(first.instrument_id, "dukascopy", "EUR-USD", "quotes", *day_of(days[1]))]
        for span in [*spans, span_of(conn, "trades", month=True)]:
            path = new_path(span, 0)
            made = written(conn, span, storage.work / "file")[1]
            storage.keep(storage.work / "file", path)
            with conn.transaction():
                commit = catalog.begin(conn, span.layout)
                catalog.add(commit, span.layout, path, made, span.venue, span.product_id)
                catalog.finish(commit, added=True, ended=False)
        told = conn.execute("SELECT count(*), sum(bid), sum(ask_size) FROM quotes").fetchone()
        with lake(database_url, tmp_path) as duck:
            assert duck.execute("SELECT count(*), sum(bid), sum(ask_size) FROM lake.quotes").fetchone() == told
            found = duck.execute("SELECT count(*) FROM lake.trades WHERE venue = 'kraken' AND origin = 'history'")
            assert found.fetchone() == (KRAKEN_TRADES,)
            plan = "EXPLAIN ANALYZE SELECT sum(bid) FROM lake.quotes WHERE ts >= '2019-02-05' AND ts < '2019-02-06'"
            assert "Total Files Read: 1" in duck.execute(plan).fetchall()[0][1]
            for condition in ("bid = 1.145", "bid > 1.14599", "ask BETWEEN 1.1451 AND 1.1452", "bid > 2"):
                count = f"quotes WHERE {condition}"
                ours = conn.execute(f"SELECT count(*) FROM {count}").fetchone()
                assert duck.execute(f"SELECT count(*) FROM lake.{count}").fetchone() == ours, condition
        with conn.transaction():  # a newer version of the first day, of which half is gone
            conn.execute("DELETE FROM quotes WHERE ts < %s", (EURUSD_DAY + timedelta(hours=12),))
            path = new_path(first, 1)
            made = files.write(
                storage.work / "file",
                first,
                1,
                files.schema_of(first.layout, types := rows.survey(conn, first).types),
                rows.pieces(conn, first, types),
            )
            storage.keep(storage.work / "file", path)
            commit = catalog.begin(conn, first.layout)
            catalog.end(commit, 0)
            catalog.add(commit, first.layout, path, made, first.venue, first.product_id)
            catalog.finish(commit, added=True, ended=True)
        with lake(database_url, tmp_path) as duck:
            assert duck.execute("SELECT count(*) FROM lake.quotes").fetchone() == (EURUSD_QUOTES + made.rows,)
            before = duck.execute(f"SELECT count(*) FROM lake.quotes AT (VERSION => {commit.snapshot - 1})").fetchone()
            assert before == (2 * EURUSD_QUOTES,)
        with conn.transaction():
            catalog.forget(conn, 0)
        with lake(database_url, tmp_path) as duck:
            assert duck.execute("SELECT count(*) FROM lake.quotes").fetchone() == (EURUSD_QUOTES + made.rows,)


def test_our_catalog_is_the_one_that_stock_duckdb_makes(database_url: str, tmp_path: Path) -> None:
    """A new version of the format must be noticed here, not by users."""
    query = (
        "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns WHERE table_schema = %s"
        " AND table_name !~ 'inlined_data_[0-9]' ORDER BY table_name, ordinal_position"
    )
    with psycopg.connect(database_url, autocommit=True) as conn:
        with lake(database_url, tmp_path) as duck:
            attach = "ATTACH 'ducklake:postgres:{}' AS stock (METADATA_SCHEMA 'stock', DATA_PATH '{}')"
            duck.execute(attach.format(database_url, tmp_path))
            for table in ("trades", "quotes", "exchange_candles"):
                duck.execute(f"CREATE TABLE stock.{table} AS FROM lake.{table} LIMIT 0")
        ours = conn.execute(query, ("lake",)).fetchall()
        assert ours == conn.execute(query, ("stock",)).fetchall()
        for table, names in (
            ("metadata", "key, value"),
            ("column", "column_id, table_id, column_order, column_name, column_type, default_value, nulls_allowed"),
            ("schema", "schema_id, schema_name, path"),
            ("table", "table_id, schema_id, table_name, path"),
        ):
            both = [
                conn.execute(f"SELECT {names} FROM {schema}.ducklake_{table} ORDER BY 1, 2").fetchall()
                for schema in ("lake", "stock")
            ]
            if table == "metadata":
                both = [[row for row in rows if row[0] in ("version", "encrypted")] for rows in both]
            assert both[0] == both[1], table


def test_a_reader_needs_no_more_than_the_readers_role(database_url: str, tmp_path: Path) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        catalog.set_data_path(conn, f"{tmp_path}/")
    with reader_of(database_url) as url, lake(url, tmp_path) as duck:
        assert duck.execute("SELECT count(*) FROM lake.trades").fetchone() == (0,)
        with pytest.raises(duckdb.Error):
            duck.execute("CREATE TABLE lake.other (a INTEGER)")


def test_months_and_days_are_utc() -> None:
    assert [f"{moment:%Y-%m-%d}" for moment in month_of(from_us(T0_US))] == ["2023-11-01", "2023-12-01"]
    assert [f"{moment:%Y-%m-%d}" for moment in day_of(from_us(T0_US))] == ["2023-11-14", "2023-11-15"]
