"""What a certificate says of a day's delay is what was measured: of live trades, once each, by their own day."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest

from consumers.live_delays import UP_TO_MS
from consumers.trades import Trades
from pipeline.archive.certificate import certificate
from pipeline.archive.storage import Folder
from pipeline.core.times import from_us
from pipeline.database.ledger import Head, Ledger
from tests.messages import T0_US, received, store, trade, trades_record

DAY_US = 86_400_000_000
START_US = T0_US // DAY_US * DAY_US


@pytest.fixture
def conn(database_url: str) -> Any:
    with psycopg.connect(database_url, autocommit=True) as made:
        yield made


def frame(first_id: int, at_us: int, delay_ms: float, count: int = 1, origin: str = "live", **names: str) -> Any:
    record = trades_record([trade(first_id + n, at_us) for n in range(count)], origin=origin, **names)
    return received("trades", {**record, "received_at_us": at_us + int(delay_ms * 1000)})


def counted(conn: Any) -> list[tuple[Any, ...]]:
    return list(conn.execute("SELECT day, up_to_ms, trades FROM live_delays ORDER BY 1, 2").fetchall())


def test_live_trades_are_counted_by_day_and_step(conn: Any) -> None:
    """Steps that fall together at whole milliseconds must not be two rows of one statement."""
    messages = [
        frame(1, START_US, -3),
        frame(2, START_US, 1.1),
        frame(3, START_US, 1.9),
        frame(4, START_US, 100, count=5),
        frame(10, START_US + DAY_US - 1, 100),
        frame(11, START_US + DAY_US, 100),
        frame(12, START_US, 60_000, origin="history"),
        frame(13, START_US, 60_000, origin="snapshot"),
    ]
    assert store(Trades(), conn, messages)[0] == 12
    one, two = from_us(START_US).date(), from_us(START_US + DAY_US).date()
    assert counted(conn) == [(one, 0, 1), (one, 2, 2), (one, 108, 6), (two, 108, 1)]
    assert store(Trades(), conn, messages)[0] == 0
    assert len(counted(conn)) == 4
    assert counted(conn)[2] == (one, 108, 6), "trades that are stored already are not counted again"
    store(Trades(), conn, [frame(20, START_US, 100)])
    assert counted(conn)[2] == (one, 108, 7)


def test_steps_are_nine_percent_apart_and_hold_any_delay(conn: Any) -> None:
    steps = UP_TO_MS[UP_TO_MS > 100]
    assert (steps[1:] / steps[:-1] < 1.1).all()
    assert store(Trades(), conn, [frame(1, START_US, 1e9 * 3)]) == (1, [])
    assert counted(conn)[0][1:] == (UP_TO_MS[-1], 1)


def test_a_certificate_has_the_percentiles_and_the_clock(conn: Any, tmp_path: Path) -> None:
    store(Trades(), conn, [frame(1, START_US, 50, count=98), frame(99, START_US, 3000), frame(100, START_US, 9000)])
    ledger = Ledger(conn)
    for offset_ms in (-20, 40, None):
        head = Head("kraken", "BTC-USD", "crypto", 1, 100, 100, 0, 0, "stream", "contiguous ids", offset_ms)
        ledger.write_heads([head])
    today = conn.execute("SELECT (now() AT TIME ZONE 'UTC')::date").fetchone()[0]
    assert conn.execute("SELECT * FROM clock_offsets").fetchall() == [(1, today, -20, 40, 20, 2)]
    conn.execute("UPDATE clock_offsets SET day = %s", (date.fromisoformat(f"{from_us(START_US):%Y-%m-%d}"),))
    made = certificate(conn, Folder(tmp_path), "kraken", "BTC-USD", from_us(START_US))
    assert made.delay_ms == {"p50": 50, "p99": 3159, "trades": 100}
    assert made.clock_offset_ms == {"least": -20, "mean": 10.0, "greatest": 40, "looks": 2}
    other = certificate(conn, Folder(tmp_path), "kraken", "BTC-USD", from_us(START_US + DAY_US))
    assert (other.delay_ms, other.clock_offset_ms) == (None, None)
