"""Binance's documented payloads: what must come out of them, and what must not break the rest."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import WrongAnswer, WrongUse
from schemas.records import Quote, TradeRow
from venues.binance import parse
from venues.binance.parse import Asked
from venues.binance.settings import BinanceSettings
from venues.binance.stream import BinanceVenue, products_of
from venues.binance.symbols import listed_in, symbol_of
from venues.events import (
    Acknowledged,
    SubscriptionRefused,
    TickerFrame,
    TradeFrame,
    Unreadable,
    VenueNotice,
    VenueTime,
)
from venues.rest.client import Answer

ASKED = Asked(
    {"BNBBTC": "BNB-BTC", "BTCFDUSD": "BTC-FDUSD"}, {1: ("trade", ("BNB-BTC",)), 2: ("trade", ("A-B", "C-D"))}
)
TRADE = {
    "e": "trade",
    "E": 1672515782136,
    "s": "BNBBTC",
    "t": 12345,
    "p": "0.001",
    "q": "100",
    "T": 1672515782135,
    "m": True,
    "M": True,
}


def read(**changes: Any) -> list[Any]:
    return parse.read(json.dumps(TRADE | changes).encode(), ASKED)


def test_the_documented_trade_in_both_units_of_time() -> None:
    """Prevents microseconds from being taken for milliseconds of the year 54,000, or the other way round."""
    row = TradeRow(12345, 1672515782135000, "0.001", "100", "sell")
    assert read() == [VenueTime(1672515782136000), TradeFrame("BNB-BTC", [row])]
    fine = read(E=1672515782136789, T=1672515782135123)
    assert fine[0] == VenueTime(1672515782136789)
    assert fine[1].rows[0].timestamp_us == 1672515782135123


def test_the_taker_sold_where_the_buyer_was_the_maker() -> None:
    assert [read(m=maker)[1].rows[0].taker_side for maker in (True, False, None, "x")] == [
        "sell",
        "buy",
        "unknown",
        "unknown",
    ]


def test_the_documented_book_ticker_has_no_time() -> None:
    """Prevents bid and ask, or prices and sizes, from being taken for each other."""
    frame = b'{"u":400900217,"s":"BNBBTC","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}'
    quote = Quote("25.35190000", "25.36520000", "31.21000000", "40.66000000")
    assert parse.read(frame, ASKED) == [TickerFrame("BNB-BTC", None, quote)]


def test_an_acknowledgement_is_found_by_its_number() -> None:
    """The answer names nothing but the number."""
    assert parse.read(b'{"result":null,"id":1}', ASKED) == [Acknowledged("trade", "BNB-BTC", 1)]
    two = parse.read(b'{"result":null,"id":2}', ASKED)
    assert two == [Acknowledged("trade", "A-B", 2), Acknowledged("trade", "C-D", 2)]
    assert parse.read(b'{"result":null,"id":7}', ASKED) == parse.read(b'{"result":null,"id":null}', ASKED) == []


def test_a_refusal_is_found_by_its_number_in_either_form() -> None:
    reason = "Invalid request: too many parameters"
    for text in (
        f'{{"code":2,"msg":"{reason}","id":1}}',
        f'{{"error":{{"code":2,"msg":"{reason}"}},"id":1}}',
    ):
        assert parse.read(text.encode(), ASKED) == [SubscriptionRefused("trade", "BNB-BTC", reason, 1)]
    assert parse.read(b'{"code":2,"msg":"x","id":2}', ASKED) == [SubscriptionRefused("trade", None, "x", 2)]
    assert parse.read(b'{"code":3,"msg":"Invalid JSON"}', ASKED) == [VenueNotice("error", "Invalid JSON")]


def test_what_is_no_data_says_so() -> None:
    heartbeat = (
        b'{"e":"24hrMiniTicker","E":1672515782136,"s":"BTCUSDT","c":"1","o":"1","h":"1","l":"1","v":"1","q":"1"}'
    )
    assert parse.read(heartbeat, ASKED) == [VenueTime(1672515782136000)]
    (notice,) = parse.read(b'{"e":"serverShutdown","E":1770123456789}', ASKED)
    assert isinstance(notice, VenueNotice)
    assert parse.read(b'{"e":"kline","E":1672515782136,"s":"BNBBTC","k":{}}', ASKED) == []


def test_a_symbol_is_the_product_that_was_asked_for() -> None:
    """Prevents trades of BTC-FDUSD from being stored as BTCFD-USD."""
    assert read(s="BTCFDUSD")[1].product_id == "BTC-FDUSD"
    assert read(s="ETHUSDT")[1].product_id == "ETH-USDT"
    assert symbol_of("BTC-FDUSD") == "BTCFDUSD"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"t": -1}, "trade_id"),
        ({"t": 1 << 62}, "trade_id"),
        ({"p": "abc"}, "decimal"),
        ({"q": None}, "decimal"),
        ({"T": "yesterday"}, "time"),
        ({"T": 1}, "time"),
        ({"E": 1.5}, "time"),
        ({"s": ["BNBBTC"]}, "shape"),
        ({"s": "?"}, "shape"),
    ],
)
def test_what_cannot_be_read_is_named(changes: dict[str, object], reason: str) -> None:
    (bad,) = read(**changes)
    assert isinstance(bad, Unreadable)
    assert bad.reason == reason


@given(st.binary(max_size=300))
def test_no_bytes_whatever_end_the_connection(frame: bytes) -> None:
    for said in parse.read(frame, ASKED):
        assert isinstance(said, Unreadable | VenueNotice)


@given(
    st.dictionaries(
        st.sampled_from(["e", "E", "s", "t", "u", "T", "p", "q", "m", "id", "result", "error", "code", "msg"]),
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
    )
)
def test_no_shape_whatever_ends_the_connection(message: dict[str, object]) -> None:
    for event in ("trade", "24hrMiniTicker", None):
        parse.read(json.dumps({"e": event} | message).encode(), ASKED)


REST_TRADE = {
    "id": 28457,
    "price": "4.00000100",
    "qty": "12.00000000",
    "quoteQty": "48.000012",
    "time": 1499865549590,
    "isBuyerMaker": True,
    "isBestMatch": True,
}


def test_the_documented_trade_of_rest_and_of_the_archive_are_one() -> None:
    row = TradeRow(28457, 1499865549590000, "4.00000100", "12.00000000", "sell")
    page = parse.rest_trades(json.dumps([REST_TRADE]).encode())
    assert page.rows == [row]
    assert parse.archive_row(b"28457,4.00000100,12.00000000,48.000012,1499865549590,True,True\n") == row
    micro = parse.archive_row(b"28457,4.00000100,12.00000000,48.000012,1735689600123456,false,True\r\n")
    assert micro == TradeRow(28457, 1735689600123456, "4.00000100", "12.00000000", "buy")


@pytest.mark.parametrize(
    "line",
    [
        b"id,price,qty,quoteQty,time,isBuyerMaker,isBestMatch\n",
        b"",
        b"\xff\xfe",
        b"1,2,3\n",
        b"28457,0.0,12.0,48.0,1499865549590,True,True\n",
        b"28457,NaN,12.0,48.0,1499865549590,True,True\n",
        b"28457,4.0,12.0,48.0,149986554959,True,True\n",
        b"-1,4.0,12.0,48.0,1499865549590,True,True\n",
    ],
)
def test_a_line_that_cannot_be_stored_is_none(line: bytes) -> None:
    """It is then missing in the file, and REST is asked for it."""
    assert parse.archive_row(line) is None


def test_one_odd_row_of_rest_costs_itself() -> None:
    rows = [REST_TRADE, REST_TRADE | {"id": 28458, "price": "x"}, REST_TRADE | {"id": 28459}]
    page = parse.rest_trades(json.dumps(rows).encode())
    assert [row.trade_id for row in page.rows] == [28457, 28459]
    assert [(one.trade_id, one.reason) for one in page.bad] == [(28458, "decimal")]


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"code":-1,"msg":"x"}', b"null", b'[{"a":1}]', b"[1]"])
def test_what_is_no_page_is_not_taken_for_an_empty_one(body: bytes) -> None:
    with pytest.raises(WrongAnswer):
        parse.rest_trades(body)
    with pytest.raises(WrongAnswer):
        parse.first_of_aggregates(body if body != b'[{"a":1}]' else b'[{"f":"x"}]')


def test_the_first_trade_of_an_aggregate() -> None:
    body = b'[{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27785,"T":1498793709153,"m":true,"M":true}]'
    assert parse.first_of_aggregates(body) == 27781
    assert parse.first_of_aggregates(b"[]") is None


def test_the_listing_says_what_a_symbol_is() -> None:
    market = {"symbol": "BTCFDUSD", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "FDUSD"}
    odd = {"symbol": "X", "baseAsset": "?", "quoteAsset": "?"}
    body = json.dumps({"timezone": "UTC", "symbols": [odd, {}, market]}).encode()
    assert listed_in(Answer(body, {})) == {"BTCFDUSD": "BTC-FDUSD"}
    for body in (b"[]", b"null", b'{"symbols":1}', b"x"):
        with pytest.raises(WrongAnswer):
            listed_in(Answer(body, {}))


def test_two_products_of_one_symbol_are_refused() -> None:
    """The trades of one would be stored under the name of the other."""
    with pytest.raises(WrongUse, match="BTC-USDT and BTCU-SDT are both BTCUSDT"):
        products_of(BinanceSettings(product_ids=("BTC/USDT", "BTCU/SDT")))


def test_what_is_sent_is_what_the_venue_documents(tmp_path: Path) -> None:
    settings = BinanceSettings(
        product_ids=("BTC/USDT", "btcusdt", "ETH-USDT"), rest_url="http://127.0.0.1:9", ws_url="ws://127.0.0.1:9/ws"
    )
    assert products_of(settings) == ("BTC-USDT", "ETH-USDT")
    venue = BinanceVenue(settings, tmp_path, threading.Event())
    assert venue.url == "ws://127.0.0.1:9/ws?timeUnit=MICROSECOND"
    assert [json.loads(text)["params"] for text in venue.opened()] == [["btcusdt@miniTicker"]]
    assert json.loads(venue.subscribe("trade", venue.products, 5)) == {
        "method": "SUBSCRIBE",
        "params": ["btcusdt@trade", "ethusdt@trade"],
        "id": 5,
    }
    assert json.loads(venue.unsubscribe("bookTicker", ["BTC-USDT"], 9))["params"] == ["btcusdt@bookTicker"]
    assert venue.read(b'{"result":null,"id":5}')[-1] == Acknowledged("trade", "ETH-USDT", 5)
    assert venue.read(b'{"result":null,"id":5}') == []  # each answer asks REST for the newest trades
    venue.subscribe("bookTicker", venue.products, 6)
    venue.opened()  # numbers of the old connection say nothing on the new one
    assert venue.read(b'{"result":null,"id":6}') == []
