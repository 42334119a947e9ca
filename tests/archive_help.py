"""Recorded days in the tables, stock DuckDB with the catalog attached."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import psycopg
from psycopg import sql

from consumers.archive import prepared
from consumers.candles import Candles
from consumers.quote_hours import Hours
from consumers.subscription import Message
from consumers.trades import Trades
from pipeline.archive import catalog
from pipeline.archive.archive import Archive
from pipeline.archive.due import Due, due
from pipeline.archive.layout import LAYOUTS, Kind
from pipeline.archive.ledger import current, delete_rows, spans
from pipeline.core.settings import PROJECT, ArchiveSettings
from pipeline.core.times import to_us
from producers.dukascopy.feeds import bi5
from schemas.columns import encode_quote_hour
from schemas.records import HourHeader
from tests.messages import T0_US, received, store, trade, trades_record

RECORDINGS = PROJECT / "simulator" / "recordings"
EURUSD_DAY = datetime(2019, 2, 4, tzinfo=UTC)
EURUSD_QUOTES = 136_741
KRAKEN_TRADES = 1000
NOW = datetime(2026, 1, 1, tzinfo=UTC)  # when all of it is over


def eurusd_messages(day: datetime = EURUSD_DAY) -> list[Message]:
    """The recorded quotes of EURUSD of 2019-02-04, an hour each, as if they were those of `day`."""
    messages = []
    for hour in range(24):
        quotes = bi5.parse_hour((RECORDINGS / f"dukascopy/bi5/EURUSD/2019/01/04/{hour:02}h_ticks.bi5").read_bytes())
        start_us = to_us(day) + hour * 3_600_000_000
        header = HourHeader(
            venue="dukascopy",
            product_id="EUR-USD",
            asset_class="forex",
            origin="history",
            received_at_us=start_us,
            hour_start_us=start_us,
            status="ticks",
            feed="bi5",
            fetched_at_us=start_us + 7_200_000_000,
            price_scale=5,
            size_scale=0,
        )
        columns = [getattr(quotes, name) for name in ("offset_ms", "bid", "ask", "bid_size", "ask_size")]
        data = encode_quote_hour(header, *(np.asarray(column, dtype=np.int64) for column in columns))
        messages.append(received("quotes", data))
    return messages


def store_eurusd_day(conn: Any, day: datetime = EURUSD_DAY) -> None:
    assert store(Hours(), conn, eurusd_messages(day)) == (EURUSD_QUOTES, [])


def store_kraken_trades(conn: Any) -> None:
    """Kraken's recorded answer: 1,000 trades of one day."""
    (rows,) = (
        rows
        for name, rows in json.loads((RECORDINGS / "kraken/rest_Trades_XBTUSDT.json").read_text())["result"].items()
        if name != "last"
    )
    trades = [
        trade(row[6], int(Decimal(str(row[2])) * 1_000_000), row[0], row[1], "buy" if row[3] == "b" else "sell")
        for row in rows
    ]
    record = trades_record(trades, origin="history")
    assert store(Trades(), conn, [received("trades", record)]) == (KRAKEN_TRADES, [])


def store_candles(conn: Any, close: str) -> None:
    """A final candle of one minute, looked at the later the higher it closed."""
    record = {
        "venue": "kraken",
        "product_id": "BTC-USD",
        "asset_class": "crypto",
        "origin": "history",
        "received_at_us": T0_US,
        "granularity_s": 60,
        "as_of_us": T0_US + int(close) * 60_000_000,
        "candles": [
            {
                "bucket_us": T0_US,
                "open": "100",
                "high": "105",
                "low": "99",
                "close": close,
                "volume": "1",
                "final": 1,
            }
        ],
        "state": None,
        "covered_from_us": None,
        "covered_to_us": None,
        "quorum": None,
    }
    topic = "persistent://t/candles/kraken.btc-usd"
    stored = store(Candles(), conn, [received("candles", record, topic)])
    assert stored == (1, [])


@contextmanager
def reader_of(database_url: str) -> Iterator[str]:
    """The address of the database for somebody who may only read."""
    info = psycopg.conninfo.conninfo_to_dict(database_url)
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("DROP ROLE IF EXISTS archive_test_reader")
        conn.execute("CREATE ROLE archive_test_reader LOGIN PASSWORD 'x' IN ROLE market_data_reader")
        try:
            yield (f"postgresql://archive_test_reader:x@{info['host']}:{info['port']}/{info['dbname']}")
        finally:
            conn.execute("DROP OWNED BY archive_test_reader; DROP ROLE archive_test_reader")


def lake(url: str, folder: Path) -> Any:
    """Stock DuckDB with the catalog attached read-only as `lake`; `folder` is for the extensions' links."""
    made = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    for package, name in (("ducklake", "ducklake"), ("postgres", "postgres_scanner")):
        spec = importlib.util.find_spec(f"duckdb_extension_{package}")
        assert spec is not None
        assert spec.origin is not None
        (file,) = Path(spec.origin).parent.rglob("*.duckdb_extension")
        link = folder / f"{name}.duckdb_extension"
        if not link.exists():
            link.symlink_to(file)
        made.execute(f"LOAD '{link}'")
    made.execute(f"ATTACH 'ducklake:postgres:{url}' AS lake (METADATA_SCHEMA 'lake', READ_ONLY)")
    return made


def archive_in(conn: Any, folder: Path) -> Archive:
    """The one writer of the test's archive."""
    assert catalog.lock(conn)
    return prepared(conn, ArchiveSettings(path=str(folder)))


def archive_all(conn: Any, archive: Archive, before: datetime = NOW) -> list[Due]:
    """Archive what is due, as one round of the program does; what waits."""
    found = due(conn, before)
    for one in found:
        if not one.waits_for:
            assert archive.archive(one.span) is not None
    return [one for one in found if one.waits_for]


def rows_everywhere(conn: Any, archive: Archive, kind: Kind) -> list[tuple[Any, ...]]:
    """The rows of a kind from both tiers, as a reader takes them: nothing twice, nothing left out."""
    names = [column.name for column in LAYOUTS[kind].columns]
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        query = f"SELECT venue, product_id, {', '.join(names)} FROM {kind} JOIN instruments USING (instrument_id)"
        found = conn.execute(query).fetchall()
        for span in spans(conn, sql.SQL("NOT in_tables AND kind = %(kind)s"), {"kind": kind}):
            file = current(conn, span)
            assert file is not None
            times = conn.execute(
                "SELECT from_ts, to_ts FROM archive_only WHERE instrument_id = %s AND kind = %s",
                (span.instrument_id, kind),
            ).fetchall()
            table = archive.read(span, file)
            for row in zip(*(table[name].to_pylist() for name in names), strict=True):
                if any(low <= row[0] < high for low, high in times):
                    found.append((span.venue, span.product_id, *row))
    return sorted(found)


def drop_from_tables(conn: Any, low: datetime, high: datetime) -> None:
    """What retention leaves of the archived spans inside an interval: the files."""
    inside = sql.SQL("from_ts >= %(low)s AND to_ts <= %(high)s")
    for span in spans(conn, inside, {"low": low, "high": high}):
        with conn.transaction():
            delete_rows(conn, span)
            conn.execute(
                "UPDATE archive_spans SET in_tables = false WHERE instrument_id = %s AND kind = %s AND from_ts = %s",
                (span.instrument_id, span.kind, span.from_ts),
            )
