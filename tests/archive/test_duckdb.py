"""Other engines find the archive's rows: stock DuckDB by the catalog, plain pyarrow by the files, `scripts/duckdb`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline import duckdb
from pipeline.core.settings import PROJECT
from tests.archive_help import EURUSD_DAY, archive_all, archive_in, lake, store_eurusd_day, store_kraken_trades
from tests.environment import Environment

SUMS = {
    "quotes": "count(*), sum(bid), sum(ask), sum(bid_size), sum(ask_size)",
    "trades": "count(*), sum(price), sum(quantity), min(trade_id), max(trade_id)",
}


@pytest.fixture
def conn(database_url: str, in_env: Callable[..., None], tmp_path: Path) -> Any:
    in_env(ARCHIVE_PATH=tmp_path / "archive")
    with psycopg.connect(database_url, autocommit=True) as made:
        yield made


@pytest.fixture
def run(env: Environment, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def call(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROJECT / "scripts" / "duckdb", *arguments],
            env=env(ARCHIVE_PATH=tmp_path / "archive"),
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return call


def sums_of_files(folder: Path, kind: str) -> list[Any]:
    """With pyarrow alone, which knows neither catalog nor database."""
    tables = [pq.read_table(file, partitioning=None) for file in (folder / "main" / kind).rglob("*.parquet")]
    rows = sum(len(table) for table in tables)

    def total(name: str) -> Decimal:
        return sum((pc.sum(table[name].cast(pa.decimal256(76, 18))).as_py() for table in tables), Decimal(0))

    if kind == "quotes":
        return [rows, *map(total, ("bid", "ask", "bid_size", "ask_size"))]
    ids = pa.chunked_array([chunk for table in tables for chunk in table["trade_id"].chunks])
    return [rows, total("price"), total("quantity"), *(end.as_py() for end in pc.min_max(ids).values())]


def test_every_engine_gives_the_counts_and_sums_of_psql(conn: Any, database_url: str, tmp_path: Path) -> None:
    """An archive that only its own program can read, or that others read with other numbers."""
    store_eurusd_day(conn)
    store_eurusd_day(conn, EURUSD_DAY + timedelta(days=1))
    store_kraken_trades(conn)
    assert archive_all(conn, archive_in(conn, tmp_path / "archive")) == []
    stock, ours = lake(database_url, tmp_path), duckdb.connect()
    for kind, sums in SUMS.items():
        told = list(conn.execute(f"SELECT {sums} FROM {kind}").fetchone())
        assert list(stock.execute(f"SELECT {sums} FROM lake.{kind}").fetchone()) == told
        assert list(ours.execute(f"SELECT {sums} FROM {kind}").fetchone()) == told
        assert sums_of_files(tmp_path / "archive", kind) == told
    candles = (
        "SELECT epoch_us(ts) // 3_600_000_000, first(bid ORDER BY ts, seq), max(bid), min(bid),"
        " last(bid ORDER BY ts, seq), sum(bid_size), count(*)"
        " FROM quotes WHERE asset_class = 'forex' GROUP BY 1 ORDER BY 1"
    )
    told = conn.execute(
        "SELECT extract(epoch FROM bucket)::bigint / 3600, open, high, low, close, bid_size, ticks"
        " FROM quote_candles_1h ORDER BY 1"
    ).fetchall()
    assert ours.execute(candles).fetchall() == told


def test_one_day_reads_one_file(conn: Any, tmp_path: Path) -> None:
    """Views that hide the catalog's ranges, so that a day of ten years reads all of them."""
    store_eurusd_day(conn)
    store_eurusd_day(conn, EURUSD_DAY + timedelta(days=1))
    archive_all(conn, archive_in(conn, tmp_path / "archive"))
    plan = (
        duckdb.connect()
        .execute(
            "EXPLAIN ANALYZE SELECT count(*) FROM quotes WHERE venue = 'dukascopy' AND product_id = 'EUR-USD'"
            " AND ts >= '2019-02-04' AND ts < '2019-02-05'"
        )
        .fetchall()
    )
    assert "Total Files Read: 1 " in str(plan)


def test_statements_are_run_and_shown(
    conn: Any, run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    empty = run("-c", "SELECT 1")
    assert (empty.returncode, empty.stderr.count("\n")) == (2, 1)
    assert "the archive is not set up yet" in empty.stderr
    store_kraken_trades(conn)
    archive_all(conn, archive_in(conn, tmp_path / "archive"))
    one = "SELECT venue, trade_id, price FROM trades ORDER BY trade_id LIMIT 1"
    (venue, trade_id, price) = conn.execute(
        f"{one.replace('trades', 'trades JOIN instruments USING (instrument_id)')}"
    ).fetchone()
    shown = run("-c", one, "-c", "SHOW TABLES")
    assert shown.returncode == 0, shown.stderr
    for word in ("trade_id", str(trade_id), f"{price.normalize():f} ", "instruments"):
        assert word in shown.stdout
    written = run("--csv", given=f"{one}; SELECT NULL AS a, 'x,y' AS b;")
    assert written.stdout == f'venue,trade_id,price\n{venue},{trade_id},{price.normalize():f}\na,b\n,"x,y"\n'


@pytest.mark.parametrize(
    "statement", ["SELEC 1", "SELECT nope FROM trades", "DELETE FROM lake.trades", "DROP TABLE db.trades"]
)
def test_what_is_no_question_is_one_sentence(
    conn: Any, run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, statement: str
) -> None:
    archive_in(conn, tmp_path / "archive")
    answer = run("-c", statement)
    assert (answer.returncode, answer.stderr.count("\n"), answer.stdout) == (2, 1, "")
    assert conn.execute("SELECT to_regclass('trades') IS NOT NULL").fetchone() == (True,)
