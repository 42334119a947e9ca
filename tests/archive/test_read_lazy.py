"""Lazy frames of the archive's files give what `pipeline.read` gives: the same floats, in any zone of a span."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from consumers.trades import Trades
from pipeline import read
from pipeline.core.times import to_us
from tests.archive_help import EURUSD_DAY, archive_all, archive_in, drop_from_tables, store_eurusd_day
from tests.messages import received, store, trade, trades_record


@pytest.fixture
def conn(database_url: str, in_env: Callable[..., None], tmp_path: Path) -> Any:
    in_env(ARCHIVE_PATH=tmp_path)
    with psycopg.connect(database_url, autocommit=True) as made:
        yield made


@pytest.mark.parametrize("digits", [(1, 5), (4, 8), (8, 10), (3, 18), (16, 18)])
def test_floats_of_a_lazy_frame_are_the_nearest(conn: Any, tmp_path: Path, digits: tuple[int, int]) -> None:
    """Prevents prices that differ in the last bit by the function that read them."""
    chance, at = random.Random(1), to_us(EURUSD_DAY)
    whole, places = digits

    def text() -> str:
        return f"{chance.randrange(1, 10**whole)}.{chance.randrange(10**places):0{places}}"

    trades = [trade(n, at + n, price=text(), quantity=text()) for n in range(1, 500)]
    store(Trades(), conn, [received("trades", trades_record(trades, origin="history"))])
    expected = read.trades("kraken", "BTC-USD").arrow()
    assert expected["price"].to_pylist() == [float(one["price"]) for one in trades]
    archive_all(conn, archive_in(conn, tmp_path))
    drop_from_tables(conn, EURUSD_DAY.replace(day=1), EURUSD_DAY + timedelta(days=31))
    assert read.trades("kraken", "BTC-USD").arrow().equals(expected)
    found = read.scan_trades("kraken", "BTC-USD").collect()
    for name in ("price", "quantity"):
        assert found[name].to_list() == expected[name].to_pylist()


@pytest.mark.parametrize("zone", [timezone(timedelta(hours=-5)), ZoneInfo("Europe/Berlin")])
def test_a_span_may_be_named_in_any_zone(conn: Any, tmp_path: Path, zone: Any) -> None:
    """Prevents an error of Polars, or other rows, for whoever thinks in the time of New York."""
    store_eurusd_day(conn)
    archive_all(conn, archive_in(conn, tmp_path))
    start, end = ((EURUSD_DAY + timedelta(hours=hour)).astimezone(zone) for hour in (7, 9))
    expected = read.quotes("dukascopy", "EUR-USD", start, end).arrow()
    assert len(expected) == len(read.quotes("dukascopy", "EUR-USD", "2019-02-04T07", "2019-02-04T09"))
    drop_from_tables(conn, EURUSD_DAY, EURUSD_DAY + timedelta(days=1))
    assert read.quotes("dukascopy", "EUR-USD", start, end).arrow().equals(expected)
    assert read.scan_quotes("dukascopy", "EUR-USD", start, end).collect().to_arrow().num_rows == len(expected)
    naive = datetime(2019, 2, 4, 7)  # UTC, as everywhere here
    assert len(read.scan_quotes("dukascopy", "EUR-USD", naive, end).collect()) == len(expected)
