"""Bitstamp's frames and answers as its documents show them, and frames that are none."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import WrongAnswer, WrongUse
from schemas.records import Quote, TradeRow
from venues.bitstamp import parse
from venues.bitstamp.settings import BitstampSettings
from venues.bitstamp.stream import BitstampVenue, products_of
from venues.events import Acknowledged, TickerFrame, TradeFrame, Unreadable, VenueEvent, VenueNotice, VenueTime

PRODUCTS = {"btcusd": "BTC-USD"}
AT_US = 1643643584587000
TRADE = {
    "id": 212337562,
    "timestamp": "1643643584",
    "amount": 0.0028,
    "amount_str": "0.00280000",
    "price": 38416,
    "price_str": "38416",
    "type": 1,
    "microtimestamp": str(AT_US),
    "buy_order_id": 1452639291506688,
    "sell_order_id": 1452639287750657,
}


def read(event: str, channel: str, data: Any) -> list[VenueEvent]:
    return parse.read(json.dumps({"event": event, "channel": channel, "data": data}).encode(), PRODUCTS)


def test_a_trade() -> None:
    """Prevents a price that went through a float, and the maker's side."""
    assert read("trade", "live_trades_btcusd", TRADE) == [
        VenueTime(AT_US),
        TradeFrame("BTC-USD", [TradeRow(212337562, AT_US, "38416", "0.00280000", "sell")]),
    ]


def test_the_best_of_a_book() -> None:
    book = {
        "timestamp": "1643643584",
        "microtimestamp": str(AT_US),
        "bids": [["38402.86", "0.78000000"], ["38402.00", "1"]],
        "asks": [["38417.49", "0.16000000"]],
    }
    quote = Quote("38402.86", "38417.49", "0.78000000", "0.16000000")
    assert read("data", "order_book_btcusd", book) == [VenueTime(AT_US), TickerFrame("BTC-USD", AT_US, quote)]
    assert read("data", "order_book_btcusd", book | {"bids": []}) == [VenueTime(AT_US)]


def test_what_the_venue_says_of_the_connection() -> None:
    assert read("bts:subscription_succeeded", "live_trades_btcusd", {}) == [Acknowledged("live_trades", "BTC-USD")]
    (notice,) = read("bts:error", "", {"code": None, "message": "Bad subscription string."})
    assert notice == VenueNotice("error", "Bad subscription string.")
    assert isinstance(read("bts:request_reconnect", "", "")[0], VenueNotice)
    assert read("bts:heartbeat", "", {"status": "success"}) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"price_str": "cheap"}, "decimal"),
        ({"id": -1}, "trade_id"),
        ({"microtimestamp": "soon"}, "time"),
        ({"microtimestamp": 1643643584587000}, "time"),
        ({"microtimestamp": "1"}, "time"),
    ],
)
def test_a_trade_that_is_none_is_named(change: dict[str, Any], reason: str) -> None:
    (said,) = read("trade", "live_trades_btcusd", TRADE | change)
    assert isinstance(said, Unreadable)
    assert said.reason == reason


@pytest.mark.parametrize("frame", [b"", b"[]", b"null", b"7", b'{"event":"trade"}', b'{"event":"trade","data":[]}'])
def test_other_frames_are_unreadable(frame: bytes) -> None:
    (said,) = parse.read(frame, PRODUCTS)
    assert isinstance(said, Unreadable)


def test_an_answer_of_rest() -> None:
    """Prevents one odd row from costing the others, and its id from counting as absent."""
    row = {"amount": "0.00280000", "date": "1643643584", "price": "38416.00", "tid": "212337562", "type": "0"}
    page = parse.rest_trades(json.dumps([row, row | {"tid": "212337561", "price": "cheap"}]).encode())
    assert page.rows == [TradeRow(212337562, 1643643584000000, "38416.00", "0.00280000", "buy")]
    assert [bad.trade_id for bad in page.bad] == [212337561]
    assert parse.rest_trades(b"[]").rows == []
    for body in (b"{}", b'{"status":"error"}', b"[1]", b"<html>"):
        with pytest.raises(WrongAnswer):
            parse.rest_trades(body)


def test_texts_and_products(tmp_path: Path) -> None:
    settings = BitstampSettings(product_ids=("BTC/USD", "BTC-USD"))
    assert products_of(settings) == ("BTC-USD",)
    venue = BitstampVenue(settings, tmp_path, threading.Event())
    text = {"event": "bts:subscribe", "data": {"channel": "live_trades_btcusd"}}
    assert json.loads(venue.subscribe("live_trades", ["BTC-USD"], 1)) == text
    with pytest.raises(WrongUse, match="are both btcusdt"):
        products_of(BitstampSettings(product_ids=("BTC-USDT", "BTCU-SDT")))
