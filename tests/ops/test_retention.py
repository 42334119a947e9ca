"""What retention drops stays accounted for, and is not taken for missing or new."""

from __future__ import annotations

from typing import Any

import psycopg

from consumers.quote_hours import Hours
from consumers.trades import Trades
from pipeline.core.runtime import now_us
from pipeline.retention import drop_old
from pipeline.verify import verify
from tests.messages import T0_US, hour_bytes, received, store, trade, trades_record


def test_dropped_ticks_stay_in_the_ledger_and_do_not_come_back(database_url: str) -> None:
    now = now_us()
    frame = received("trades", trades_record([trade(1, T0_US), trade(2, T0_US + 5), trade(3, now - 5_000_000)]))
    hour = received("quotes", hour_bytes([1, 2], [114543, 114544]))
    with psycopg.connect(database_url, autocommit=True) as conn:
        store(Trades(), conn, [frame])
        store(Hours(), conn, [hour])
        before = conn.execute("SELECT * FROM candles_1m ORDER BY 1, 2, 3").fetchall()
        assert drop_old(conn, 30) == 2
        assert drop_old(conn, 30) == 0
        assert conn.execute("SELECT trade_id FROM trades").fetchall() == [(3,)]
        assert conn.execute("SELECT count(*) FROM quotes").fetchone() == (0,)
        assert conn.execute("SELECT * FROM candles_1m ORDER BY 1, 2, 3").fetchall() == before
        again: list[Any] = [store(Trades(), conn, [frame]), store(Hours(), conn, [hour])]
        assert again == [(0, []), (0, [])], "a message that comes again after the drop"
        assert conn.execute("SELECT sum(missing) FROM completeness").fetchone() == (0,)
        assert [text for verdict in verify(conn) for text in verdict.wrong] == []
