"""A batch of few trades takes a way of its own: what it leaves in the tables, and whom it refuses, must be the same."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers import few_trades
from consumers.instruments import OtherDatabase
from consumers.sink import DeadLetters
from consumers.trades import Trades
from tests.messages import T0_US, received, store, trade, trades_record

TABLES = {
    "trades": "SELECT trade_id, ts, price, quantity, taker_side, origin",
    "trade_candle_1m": "SELECT bucket, open, high, low, close, volume, turnover, ticks, first_id, last_id",
    "trade_candle_1h": "SELECT bucket, open, high, low, close, volume, turnover, ticks, first_id, last_id",
    "trade_coverage": "SELECT ids, rows, last_ts, live_from",
    "live_delays": "SELECT day, up_to_ms, trades",
}
NUMBERS = st.decimals("0.00000001", "99999999", places=8).map(str) | st.sampled_from(
    ["1", "1.50", "0001.5", "9999999999999999.999999999999999999", "0.000000000000000001"]
)
ODD = st.sampled_from(["0", "0.0", "1e-7", "-1", "NaN", "1.", "12345678901234567", "²", ""])
TIMES = st.integers(0, 7_200_000_000).map(lambda after: T0_US + after)
ODD_TIMES = st.sampled_from([0, 1 << 60, 4_102_444_799_999_999])
IDS = st.integers(0, 30) | st.sampled_from([1 << 61, (1 << 62) - 1])
TRADES = st.builds(trade, IDS, TIMES, NUMBERS, NUMBERS, st.sampled_from(["buy", "sell", "unknown"]))
ODD_TRADES = st.builds(trade, IDS | st.just(-1), TIMES | ODD_TIMES, NUMBERS | ODD, NUMBERS | ODD)
PRODUCTS = st.sampled_from(["BTC-USD", "ETH-USD"])
ORIGINS = st.sampled_from(["live", "snapshot", "history", "repair"])
RECEIVED = st.integers(-(10**6), 10**9).map(lambda after: T0_US + after)


def messages_of(trades: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    made = st.builds(
        lambda rows, product, origin, at: trades_record(rows, product, origin=origin, received_at_us=at),
        st.lists(trades, min_size=1, max_size=5),
        PRODUCTS,
        ORIGINS,
        RECEIVED,
    )
    return st.lists(st.lists(made, min_size=1, max_size=6), min_size=1, max_size=3)


@pytest.fixture
def conn(database_url: str) -> Any:
    with psycopg.connect(database_url, autocommit=True) as made:
        yield made


def left_by(conn: Any, batches: list[list[Any]]) -> tuple[Any, ...]:
    """The rows of every table, and the letters, after these batches."""
    for table in (*TABLES, "holes"):
        if table != "trade_coverage":
            conn.execute(f"DELETE FROM {table}")
    conn.execute("UPDATE trade_coverage SET ids = '{}', rows = 0, last_ts = NULL, live_from = NULL")
    kind, letters = Trades(), []
    for batch in batches:
        topic = "persistent://public/trades/kraken.{}"
        found = [received("trades", one, topic.format(one["product_id"].lower())) for one in batch]
        letters += store(kind, conn, found)[1]
    rows = {
        table: sorted(conn.execute(f"{query}, instrument_id FROM {table}").fetchall(), key=repr)
        for table, query in TABLES.items()
    }
    return rows, sorted((letter.reason, letter.row, letter.detail) for letter in letters)


def same_either_way(conn: Any, batches: list[list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    few = left_by(conn, batches)
    with monkeypatch.context() as patch:
        patch.setattr(few_trades, "MOST_TRADES", 0)
        assert left_by(conn, batches) == few


EXAMPLES = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@EXAMPLES
@given(messages_of(TRADES))
def test_good_trades_leave_the_same_rows(conn: Any, monkeypatch: pytest.MonkeyPatch, batches: Any) -> None:
    """A candle, a range of ids or a count that only one of the ways gets right would depend on how full a batch was."""
    same_either_way(conn, batches, monkeypatch)


@EXAMPLES
@given(messages_of(TRADES | ODD_TRADES))
def test_odd_trades_are_refused_alike(conn: Any, monkeypatch: pytest.MonkeyPatch, batches: Any) -> None:
    """What no check of the short way finds would be stored, or would stop the writer."""
    same_either_way(conn, batches, monkeypatch)


def test_the_usual_batch_takes_the_short_way(conn: Any) -> None:
    """A check that is too strict would only show in the processor time of live data."""
    kind = Trades()
    batch = [received("trades", trades_record([trade(number, price="100.10"), trade(number + 1)])) for number in (1, 3)]
    parts = kind.read_all(batch, DeadLetters())
    assert isinstance(kind.prepare(parts), few_trades.FewTrades)
    assert store(kind, conn, batch) == (4, [])
    assert [str(row[0]) for row in conn.execute("SELECT price FROM trades ORDER BY trade_id").fetchall()] == [
        "100.10",
        "100.5",
        "100.10",
        "100.5",
    ]
    assert conn.execute("SELECT turnover FROM trade_candle_1m").fetchone() == (Decimal("100.3") * Decimal("0.25") * 4,)


def test_an_id_that_is_now_another_instruments_is_not_used(conn: Any) -> None:
    """After a restore the cached ids may be other products': trades of bitcoin would be stored under ether."""
    kind = Trades()
    assert store(kind, conn, [received("trades", trades_record([trade(1)]))]) == (1, [])
    conn.execute("UPDATE instruments SET product_id = 'ETH-USD'")
    with pytest.raises(OtherDatabase):
        store(kind, conn, [received("trades", trades_record([trade(2)]))])
    assert conn.execute("SELECT array_agg(trade_id) FROM trades").fetchone() == ([1],)
