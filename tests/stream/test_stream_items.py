"""What a stream takes from a topic is what the writer stores of it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from consumers.tickers import Tickers
from consumers.trades import Trades
from pipeline.core.errors import BadData
from pipeline.core.runtime import now_us
from pipeline.core.times import END_US, OLDEST_US
from pipeline.stream.items import Tick, items_of_hour, items_of_ticker, items_of_trades, ticks_of, trades_message
from schemas import encode
from tests.messages import T0_US, TOPIC, hour_bytes, parts_of, received, store, ticker_record, trade, trades_record

DAY_US = 86_400_000_000
TEXTS = [
    *("1", "01.50", "0", "0.0", "0.000000000000000001", "0.0000000000000000001", "9" * 16, "9" * 17, "1." + "3" * 18),
    *("1." + "3" * 19, "1E-7", "1e3", "+5", "-5", "-0", "5.", ".5", "9_99", "\u0665\u0660\u0660", " 5", "5\n", "1E+99"),
    *("0E-30", "1e99999", "NaN", "Infinity", "", "0x1", "5" * 61),
]


@pytest.fixture
def conn(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as made:
        yield made


def given(record: dict[str, Any]) -> set[tuple[int, Decimal, Decimal]]:
    found = trades_message(TOPIC["trades"], encode("trades", record))
    return {(row.trade_id, tick.price, tick.size) for tick, row in ticks_of(found)}


@pytest.mark.parametrize("origin", ["live", "snapshot", "repair"])
def test_a_stream_gives_the_trades_that_the_writer_stores(conn: psycopg.Connection[Any], origin: str) -> None:
    """Prevents a trade that the writer refuses from being given, and the good one of its id from being withheld then,
    and digits other than the stored ones."""
    some = [trade(100 + n, price=text) for n, text in enumerate(TEXTS)]
    some += [trade(200 + n, quantity=text) for n, text in enumerate(TEXTS)]
    some += [trade(number, at_us=T0_US) for number in (-1, 0, (1 << 62) - 1, 1 << 62)]
    now = now_us()
    times = (-1, OLDEST_US - 1, OLDEST_US, now + DAY_US // 2, now + 2 * DAY_US, END_US - 1, END_US, 1 << 62)
    some += [trade(300 + n, at_us=at) for n, at in enumerate(times)]
    record = trades_record(some, origin=origin)
    store(Trades(), conn, [received("trades", record)])
    rows = conn.execute("SELECT trade_id, price, quantity FROM trades").fetchall()
    assert len(rows) > 20
    assert given(record) == set(rows)


@pytest.mark.parametrize(
    "fields", [{"venue": "binance"}, {"product": "ETH-USD"}, {"asset_class": "stocks"}, {"received_at_us": -1}]
)
def test_a_message_that_the_writer_refuses_gives_no_trade(fields: dict[str, Any]) -> None:
    """Prevents trades of another product, or of no product, in a stream or a candle."""
    record = trades_record([trade(1)], **fields)
    with pytest.raises(BadData):
        Trades().read(received("trades", record))
    with pytest.raises(BadData):
        items_of_trades(TOPIC["trades"], encode("trades", record))


def test_ticks_of_a_kind_that_the_venue_does_not_have_are_none() -> None:
    """Prevents trades of a vendor of hours, and hours of an exchange, in a stream, while the writers refuse them."""
    message = trades_record([trade(1)], venue="dukascopy", product="EUR-USD")
    ticker = ticker_record(T0_US, venue="dukascopy", product_id="EUR-USD")
    hour = hour_bytes([1], [110_000], venue="kraken", product_id="BTC-USD")
    for parse, namespace, local, data in (
        (items_of_trades, "trades", "dukascopy.eur-usd", encode("trades", message)),
        (items_of_ticker, "tickers", "dukascopy.eur-usd", encode("ticker", ticker)),
        (items_of_hour, "quotes", "kraken.btc-usd", hour),
    ):
        with pytest.raises(BadData, match="has no "):
            parse(f"persistent://t/{namespace}/{local}", data)


@pytest.mark.parametrize("name", ["bid", "ask", "bid_size", "ask_size"])
def test_a_stream_takes_the_tickers_that_the_writer_stores(name: str) -> None:
    """Prevents a bid candle that moves with a ticker of which the writer refused another field."""
    for fields in [{name: text} for text in TEXTS] + [{"seq": seq} for seq in (-1, 0, (1 << 31) - 1)]:
        record = ticker_record(T0_US, **fields)
        stored = Tickers().prepare(parts_of(Tickers(), [received("ticker", record)])).rows
        taken = items_of_ticker(TOPIC["ticker"], encode("ticker", record))
        assert len([one for one in taken if isinstance(one, Tick)]) == stored, fields
