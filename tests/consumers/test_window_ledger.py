"""`trade_windows` as the comparison writes it: from the first streamed trade on, and never more than was seen."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from consumers.gap_filler.windows import _Product, unproven_s
from consumers.trades import Trades
from pipeline.database import windows
from pipeline.database.windows import LiveWindow
from tests.messages import received, store, trade, trades_record

NOW_US = 0  # of each test: the views ask for the time, and this module may have been imported long before
MINUTE_US = 60_000_000
VENUES = ["bitstamp"]


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "NOW_US", time.time_ns() // 1_000_000_000 * 1_000_000)


def put(conn: Any, at_us: dict[int, int], origin: str = "live", **change: Any) -> tuple[int, list[str]]:
    """Store trades by id and time: (new rows, reasons of letters)."""
    record = trades_record(
        [trade(number, at, **change) for number, at in at_us.items()], "BTC-USD", "bitstamp", origin=origin
    )
    rows, letters = store(Trades(), conn, [received("trades", record, "persistent://t/trades/bitstamp.btc-usd")])
    return rows, [letter.reason for letter in letters]


def begun(conn: Any) -> LiveWindow:
    windows.begin(conn, VENUES)
    (one,) = windows.live(conn, VENUES, NOW_US - 60 * MINUTE_US)
    return one


def test_a_live_span_begins_with_the_first_streamed_trade_and_grows_by_what_is_proven(conn: Any) -> None:
    """Prevents a claim about a time in which nobody listened, and a proof of a second that lost something."""
    put(conn, {5: NOW_US - 50 * MINUTE_US}, "history")
    windows.begin(conn, VENUES)
    assert windows.live(conn, VENUES, 0) == []  # loaded, not streamed
    start, newest = NOW_US - 5 * MINUTE_US, NOW_US - MINUTE_US
    put(conn, {10: start, 70: newest})
    one = begun(conn)
    assert (one.live_us, one.open_us, one.newest_us) == (start, start, newest)
    assert windows.unknown_ids(conn, one.venue, one.product_id, [5, 6, 10, 70, 71]) == {6, 71}
    assert windows.unknown_ids(conn, one.venue, "ETH-USD", [5, 6]) == {5, 6}  # nothing of it is stored
    assert windows.unknown_ids(conn, one.venue, one.product_id, []) == set()
    lost = (start + MINUTE_US, start + MINUTE_US + 1_000_000)
    windows.prove(conn, one.instrument_id, (start, newest), [lost])
    one = begun(conn)
    assert one.open_us == lost[0]
    row = "SELECT missing, share_complete < 1 FROM completeness"
    assert conn.execute(row).fetchone() == (1, None)  # the last proof is a minute old
    windows.prove(conn, one.instrument_id, lost, [])
    windows.prove(conn, one.instrument_id, (newest, NOW_US), [])
    assert begun(conn).open_us == NOW_US
    assert conn.execute("SELECT missing, share_complete FROM completeness").fetchone() == (0, 1)
    checked = "SELECT checked_at > now() - INTERVAL '1 min' FROM trade_windows"
    windows.prove(conn, one.instrument_id, None, [lost])  # a later answer shows more
    assert conn.execute(checked).fetchone() == (True,)
    assert conn.execute("SELECT missing FROM completeness").fetchone() == (1,)
    known = _Product(clock_us=NOW_US)  # at monotonic 0
    assert unproven_s(begun(conn), known, 5.0) == (NOW_US - lost[0]) / 1e6 + 5  # whatever was proven after it
    assert unproven_s(begun(conn), _Product(), 5.0) == float("inf")
    (moved,) = windows.live(conn, VENUES, NOW_US - 2 * MINUTE_US)
    assert (moved.live_us, moved.open_us) == (start, NOW_US)  # REST reaches no further back
    windows.prove(conn, one.instrument_id, None, [(NOW_US - 1_000_000, NOW_US)])  # it showed more of the end
    assert conn.execute(checked).fetchone() == (None,)


def test_what_is_not_streamed_any_more_ends_and_begins_again(conn: Any) -> None:
    """Prevents a product that nobody streams from being unknown for ever."""
    start = NOW_US - 90 * MINUTE_US
    put(conn, {10: start, 70: NOW_US - 70 * MINUTE_US})
    one = begun(conn)
    windows.prove(conn, one.instrument_id, (start, NOW_US - 70 * MINUTE_US), [])
    assert windows.retire(conn, one.instrument_id)
    assert not windows.retire(conn, one.instrument_id)
    windows.begin(conn, VENUES)
    assert windows.live(conn, VENUES, 0) == []
    assert conn.execute("SELECT missing, share_complete, live FROM completeness").fetchone() == (0, 1, False)
    put(conn, {90: NOW_US})
    one = begun(conn)
    assert one.live_us == NOW_US
    assert not windows.retire(conn, one.instrument_id)


@pytest.mark.parametrize(
    ("streamed", "rest", "reasons"),
    [
        (587_000, 0, []),
        (0, 999_999, []),
        (587_000, 1_000_000, ["contradiction"]),
        (587_000, 588_000, ["contradiction"]),
    ],
)
def test_rest_that_tells_whole_seconds_contradicts_nothing(
    conn: Any, streamed: int, rest: int, reasons: list[str]
) -> None:
    """Prevents dead letters about each trade that comes both ways."""
    put(conn, {10: NOW_US + streamed})
    assert put(conn, {10: NOW_US + rest}, "repair") == (0, reasons)
