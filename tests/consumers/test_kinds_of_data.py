"""Each venue has ticks of its kinds only, and its ledger accounts for every row. No broker here."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.few_trades import MOST_TRADES
from consumers.quote_hours import Hours
from consumers.sink import DeadLetters
from consumers.tickers import Tickers
from consumers.trades import Trades
from pipeline.verify import verify
from tests.messages import T0_US, hour_bytes, received, store, ticker_record, trade, trades_record

EUR = {"product_id": "EUR-USD", "asset_class": "forex"}
HOUR = hour_bytes([0, 1000, 2000], [110000, 110001, 110002])
COPIES = [1, MOST_TRADES + 1]  # read one by one, and as columns


def refused(sink: Any, schema: str, record: Any, topic: str, copies: int) -> set[tuple[str, str]]:
    """(reason, detail) of messages of which none is left."""
    letters = DeadLetters()
    assert sink.read_all([received(schema, record, topic) for _ in range(copies)], letters) == []
    return {(letter.reason, letter.detail) for letter in letters}


@pytest.mark.parametrize("copies", COPIES)
def test_what_a_venue_does_not_have_is_refused(copies: int) -> None:
    """Prevents a ticker that blocks an hour or falsifies its candles, a trade that hides the candles of quotes, and an
    hour that takes the place of tickers."""
    tick = ticker_record(venue="dukascopy", **EUR)
    found = refused(Tickers(), "ticker", tick, "persistent://t/tickers/dukascopy.eur-usd", copies)
    assert found == {("kind", "dukascopy has no tickers")}
    one = trades_record([trade(1)], venue="dukascopy", product="EUR-USD", asset_class="forex")
    found = refused(Trades(), "trades", one, "persistent://t/trades/dukascopy.eur-usd", copies)
    assert found == {("kind", "dukascopy has no trades")}
    hour = hour_bytes([1], [114543], venue="kraken")
    found = refused(Hours(), "quotes", hour, "persistent://t/quotes/kraken.eur-usd", 1)
    assert found == {("kind", "kraken has no quotes")}


@pytest.mark.parametrize("venue", ["kraken", "oanda", "nowhere"])
def test_tickers_and_trades_of_other_venues_are_read_as_before(venue: str) -> None:
    """Prevents good data from being refused, and all data of a venue whose folder is not there."""
    Tickers().read(received("ticker", ticker_record(venue=venue), f"persistent://t/tickers/{venue}.btc-usd"))
    Trades().read(received("trades", trades_record([trade(1)], venue=venue), f"persistent://t/trades/{venue}.btc-usd"))


def put_hour(conn: Any, data: bytes = HOUR) -> int:
    rows, letters = store(Hours(), conn, [received("quotes", data)])
    assert letters == []
    return rows


def stray(conn: Any) -> None:
    """A ticker of a product of hours, as it was stored before writers refused them."""
    store(Tickers(), conn, [received("ticker", ticker_record(T0_US + 30_000_000, bid="9", ask="9"))])
    conn.execute(
        "UPDATE instruments SET venue = 'dukascopy', product_id = 'EUR-USD', asset_class = 'forex', proof = 'hours'"
    )


def test_a_stray_trade_hides_no_candles_of_hours(conn: Any) -> None:
    """Prevents years of candles that are gone from the views because of one trade, stored before writers refused it."""
    put_hour(conn)
    shown = conn.execute("SELECT * FROM candles_1h").fetchall()
    assert [row[0] for row in shown] == ["dukascopy"]
    store(Trades(), conn, [received("trades", trades_record([trade(1, T0_US)]))])
    conn.execute(
        "UPDATE trade_coverage c SET ids = o.ids, rows = o.rows FROM trade_coverage o WHERE o.rows > 0;"
        "UPDATE trade_candle_1h SET instrument_id = i.instrument_id FROM instruments i WHERE i.venue = 'dukascopy'"
    )
    assert conn.execute("SELECT * FROM candles_1h WHERE venue = 'dukascopy'").fetchall() == shown


def is_whole(conn: Any) -> bool:
    """The hour alone is there."""
    assert conn.execute("SELECT state::text, ticks FROM quote_hours").fetchall() == [("present", 3)]
    assert conn.execute("SELECT high::text, ticks FROM quote_candle_1h").fetchall() == [("1.10002", 3)]
    assert conn.execute("SELECT sum(ticks) FROM quote_candle_1m").fetchone() == (3,)
    return not any(verdict.wrong for verdict in verify(conn, venue="dukascopy"))


def test_an_hour_takes_the_place_of_what_its_ledger_does_not_know(conn: Any) -> None:
    """Prevents an hour that is refused for ever because something is stored in it already."""
    stray(conn)
    assert put_hour(conn) == 3
    assert is_whole(conn)


def test_an_hour_that_comes_again_heals_what_was_added_to_it(conn: Any) -> None:
    """Prevents false candles that stay although the hour is loaded again, and rows written again without need."""
    put_hour(conn)
    conn.execute("UPDATE quote_candle_1h SET ticks = ticks + 1, high = 9")
    conn.execute("INSERT INTO quotes SELECT instrument_id, ts + INTERVAL '30 s', seq, 9, 9, 1, 1 FROM quotes LIMIT 1")
    assert put_hour(conn, hour_bytes([0], [110000], fetched_at_us=T0_US - 1)) == 0, "an older version heals nothing"
    assert put_hour(conn) == 3
    assert is_whole(conn)
    assert put_hour(conn) == 0


def test_a_strange_hour_keeps_its_sizes(conn: Any) -> None:
    """Prevents the rounded sizes of one feed under a ledger that names the other."""
    put_hour(conn, hour_bytes([0], [110000], size=[123], feed="json"))
    conn.execute("UPDATE quote_candle_1h SET ticks = ticks + 1")
    assert put_hour(conn, hour_bytes([0], [110000], size=[100], feed="bi5")) == 0
    assert conn.execute("SELECT feed, bid_size::int FROM quote_hours, quotes").fetchall() == [("json", 123)]
