"""Kraken's recorded payloads: what must come out of them, and what must not break the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import Refused, Throttled, Unavailable, WrongAnswer
from schemas.records import TradeRow
from venues.events import (
    MAX_ELEMENTS,
    MAX_ID,
    Acknowledged,
    SubscriptionRefused,
    TickerFrame,
    TradeFrame,
    Unreadable,
    VenueNotice,
    VenueTime,
)
from venues.kraken import parse
from venues.kraken.spelling import usual
from venues.kraken.symbols import product_of, rest_pair, websocket_symbol
from venues.rest.by_time import next_cursor
from venues.rest.page import Page

RECORDED = Path(__file__).parents[2] / "simulator" / "recordings" / "kraken"


def frames(name: str) -> list[bytes]:
    return (RECORDED / name).read_bytes().splitlines()


def trade_frame(**changes: object) -> bytes:
    element = {
        "symbol": "BTC/USD",
        "side": "sell",
        "price": 84095.7,
        "qty": 0.00275723,
        "ord_type": "limit",
        "trade_id": 109183886,
        "timestamp": "2026-09-26T18:09:13.157776Z",
    }
    return json.dumps({"channel": "trade", "type": "update", "data": [element, element | changes]}).encode()


def test_no_trade_of_the_recorded_session_is_lost() -> None:
    said = [one for frame in frames("ws_v2_trade_session.jsonl") for one in parse.read(frame)]
    trades = [one for one in said if isinstance(one, TradeFrame)]
    assert sum(len(frame.rows) for frame in trades) == 102
    for product in ("BTC-USD", "ETH-USD"):
        ids = [row.trade_id for frame in trades if frame.product_id == product for row in frame.rows]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert [frame.snapshot for frame in trades] == [True, True, False, False]
    assert trades[0].rows[0] == TradeRow(109183836, 1790446074626190, "84098.4", "0.04661621", "buy")
    assert [one.product_id for one in said if isinstance(one, Acknowledged)] == ["BTC-USD", "ETH-USD"]
    assert not [one for one in said if isinstance(one, Unreadable)]


def test_decimals_are_the_venues_own_digits() -> None:
    """A float between wire and message would drop the zeros that the recording has at the end of quantities."""
    text = b"".join(frames("ws_v2_trade_session.jsonl")).decode()
    for frame in frames("ws_v2_trade_session.jsonl"):
        for said in parse.read(frame):
            if isinstance(said, TradeFrame):
                for row in said.rows:
                    assert f'"price":{row.price},"qty":{row.quantity},' in text


def test_rest_page_is_complete() -> None:
    page, last = parse.rest_trades((RECORDED / "rest_Trades_XBTUSDT.json").read_bytes(), usual("BTC-USDT").names())
    assert page.ids == list(range(10218208, 10219208))
    assert page.rows[0] == TradeRow(10218208, 1762795433971744, "105433.60000", "0.00027625", "buy")
    assert last.isdecimal()
    assert len(last) == 19


def test_refusals_name_their_symbol_and_unknown_channels_say_nothing() -> None:
    said = [
        [one for one in parse.read(frame) if not isinstance(one, VenueTime)]
        for frame in frames("ws_v2_frames_acks_refusals_ticker.jsonl")
    ]
    assert said[0] == [VenueNotice("status", "online")]
    assert said[1] == [Acknowledged("trade", "BTC-USD")]
    assert said[2] == [SubscriptionRefused(None, "BTC-USD", "Currency pair not supported XBT/USD")]
    assert [one.product_id for one in said[3] + said[4] if isinstance(one, SubscriptionRefused)] == [None, None]
    (ticker,) = said[5]
    assert isinstance(ticker, TickerFrame)
    assert ticker.quote.bid_size == "0.56251979"
    assert ticker.quote.ask_size == "0.00044780"
    assert ticker.timestamp_us == 1790358506844359
    assert said[7] == said[8] == []
    candles = [frame for frame in frames("ws_v2_ohlc.jsonl") if frame.startswith(b'{"channel":"ohlc"')]
    assert [parse.read(frame) for frame in candles] == [[], []]


def test_ticker_without_venue_time_is_still_read() -> None:
    """Older servers send no timestamp."""
    frame = json.loads(frames("ws_v2_frames_acks_refusals_ticker.jsonl")[5])
    del frame["data"][0]["timestamp"]
    (ticker,) = parse.read(json.dumps(frame).encode())
    assert isinstance(ticker, TickerFrame)
    assert ticker.timestamp_us is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"price": "abc"}, "decimal"),
        ({"price": None}, "decimal"),
        ({"price": True}, "decimal"),
        ({"trade_id": -1}, "trade_id"),
        ({"trade_id": 1.5}, "trade_id"),
        ({"timestamp": "yesterday"}, "time"),
        ({"timestamp": 5}, "time"),
        ({"symbol": "?"}, "shape"),
    ],
)
def test_one_bad_trade_does_not_take_the_good_one_with_it(changes: dict[str, object], reason: str) -> None:
    good, bad = parse.read(trade_frame(**changes))
    assert isinstance(good, TradeFrame)
    assert len(good.rows) == 1
    assert isinstance(bad, Unreadable)
    assert bad.reason == reason
    assert b"109183886" in bad.payload or "trade_id" in changes


def test_frames_of_several_symbols_are_split() -> None:
    said = parse.read(trade_frame(symbol="ETH/USD"))
    assert [(one.product_id, len(one.rows)) for one in said if isinstance(one, TradeFrame)] == [
        ("BTC-USD", 1),
        ("ETH-USD", 1),
    ]


@given(st.binary(max_size=200))
def test_no_bytes_whatever_end_the_connection(frame: bytes) -> None:
    for said in parse.read(frame):
        assert isinstance(said, Unreadable | VenueNotice)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["symbol", "data", "type", "result", "success", "price"]), inner, max_size=4
            )
        ),
        max_leaves=8,
    )
)
def test_no_shape_whatever_ends_the_connection(inner: object) -> None:
    for channel in ("trade", "ticker", "status", "heartbeat"):
        parse.read(json.dumps({"channel": channel, "type": "update", "data": inner}).encode())
    parse.read(json.dumps({"method": "subscribe", "result": inner}).encode())


def test_scientific_notation_is_written_out() -> None:
    frame = trade_frame().replace(b"0.00275723", b"1e-8")
    (trades,) = parse.read(frame)
    assert isinstance(trades, TradeFrame)
    assert trades.rows[0].quantity == "0.00000001"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_no_number_is_no_price(text: str) -> None:
    """It costs its own element: one in a frame of thirty candles took the other twenty-nine with it."""
    good, bad = parse.read(trade_frame().replace(b"84095.7", text.encode(), 1))
    assert isinstance(good, TradeFrame)
    assert len(good.rows) == 1
    assert isinstance(bad, Unreadable)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"trade_id": MAX_ID}, "trade_id"),
        ({"trade_id": 10**400}, "trade_id"),
        ({"trade_id": "9" * 5000}, "trade_id"),
        ({"price": "1" * 65}, "decimal"),
        ({"price": "1e-99"}, "decimal"),
        ({"qty": 10**300}, "decimal"),
        ({"timestamp": "1999-12-31T23:59:59Z"}, "time"),
        ({"timestamp": "2100-01-01T00:00:00Z"}, "time"),
        ({"timestamp": "9999-12-31T23:59:59Z"}, "time"),
        ({"symbol": ["BTC/USD"]}, "shape"),
        ({"side": {}}, "shape"),
    ],
)
def test_what_no_message_can_hold_costs_its_element(changes: dict[str, object], reason: str) -> None:
    """An id beyond an Avro long ended the producer at each snapshot again."""
    good, bad = parse.read(trade_frame(**changes))
    assert isinstance(good, TradeFrame)
    assert len(good.rows) == 1
    assert isinstance(bad, Unreadable)
    assert bad.reason == reason
    assert len(bad.detail) < 1000


def test_an_odd_statistic_loses_neither_bid_nor_ask() -> None:
    frame = json.loads(frames("ws_v2_frames_acks_refusals_ticker.jsonl")[5])
    frame["data"][0] |= {"volume": "abc", "vwap": "1e-99", "timestamp": "then"}
    ticker, *odd = parse.read(json.dumps(frame).encode())
    assert isinstance(ticker, TickerFrame)
    assert ticker.quote.bid == "83744.2"
    assert ticker.quote.volume_24h is ticker.quote.vwap_24h is None
    assert ticker.quote.high_24h == "85247.4"
    assert ticker.timestamp_us is None
    assert [one.reason for one in odd if isinstance(one, Unreadable)] == ["statistic", "statistic", "time"]


def test_a_frame_makes_a_bounded_number_of_objects_and_letters() -> None:
    """1 MB of tiny elements made a million objects."""
    (whole,) = parse.read(b'{"channel":"trade","data":[' + b"1," * MAX_ELEMENTS + b"1,1]}")
    assert isinstance(whole, Unreadable)
    assert whole.reason == "size"
    said = parse.read(b'{"channel":"trade","data":[' + b"1," * (MAX_ELEMENTS - 10) + b"1]}")
    assert len(said) < 30
    assert isinstance(said[-1], Unreadable)
    assert said[-1].reason == "too_many"
    deep = parse.read(b'{"channel":"trade","data":' + b"[" * 500_000 + b"]" * 500_000 + b"}")
    assert len(deep) == 1


def test_an_answer_is_matched_with_its_request_also_without_a_symbol() -> None:
    """A refusal that names nothing left its product unacknowledged, and the connection was given up for it."""
    (refused,) = parse.read(b'{"error":"Nope","method":"subscribe","req_id":7,"success":false}')
    assert refused == SubscriptionRefused(None, None, "Nope", 7)
    (named,) = parse.read(b'{"error":"Currency pair not supported SOL/EUR","method":"subscribe","success":false}')
    assert isinstance(named, SubscriptionRefused)
    assert named.product_id == "SOL-EUR"
    text = b'{"error":"Already subscribed","method":"subscribe","req_id":8,"success":false,"symbol":"BTC/USD"}'
    assert parse.read(text) == [Acknowledged(None, "BTC-USD", 8)]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error":["EAPI:Rate limit exceeded"]}', Throttled),
        (b'{"error":["EGeneral:Too many requests"]}', Throttled),
        (b'{"error":["EGeneral:Temporary lockout"]}', Throttled),
        (b'{"error":["EService:Unavailable"]}', Unavailable),
        (b'{"error":["EService:Busy"]}', Unavailable),
        (b'{"error":["EGeneral:Internal error"]}', Unavailable),
        (b'{"error":["EQuery:Unknown asset pair"]}', Refused),
        (b'{"error":["EGeneral:Invalid arguments:count"]}', Refused),
        (b"<html>", WrongAnswer),
        (b'{"error":[],"result":{"XXBT', WrongAnswer),
        (b"[]", WrongAnswer),
        (b'{"error":[]}', WrongAnswer),
        (b'{"error":[],"result":{"last":"1"}}', WrongAnswer),
        (b'{"error":[],"result":{"A":[],"last":"x"}}', WrongAnswer),
        (b'{"error":[],"result":{"A":[["1","2"]],"last":"1"}}', WrongAnswer),
    ],
)
def test_each_answer_leads_to_the_reaction_it_needs(body: bytes, error: type[Exception]) -> None:
    """An error of the venue taken for an empty page would be taken for a hole in the trades."""
    with pytest.raises(error) as caught:
        parse.rest_trades(body, {"A"})
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("product", "given"),
    [("BTC-USD", "XXBTZUSD"), ("EUR-USD", "ZEURZUSD"), ("USDT-USD", "USDTZUSD"), ("DOGE-EUR", "XDGEUR")],
)
def test_an_answer_about_another_pair_is_none(product: str, given: str) -> None:
    """Prevents trades of ETH-USD that are stored as those of BTC-USD, and ids that are explained by another pair's."""
    body = b'{"error":[],"result":{"%s":[],"last":"1"}}'
    assert parse.rest_trades(body % given.encode(), usual(product).names()) == (Page([]), "1")
    for other in ("XETHZUSD", "XXBTZEUR", "USDTEUR", ""):
        with pytest.raises(WrongAnswer, match="not of"):
            parse.rest_trades(body % other.encode(), usual(product).names())
    assert usual(product)._replace(listed=given).names() == {rest_pair(product), given}


def test_warnings_are_no_errors() -> None:
    body = b'{"error":["WGeneral:Danger"],"result":{"A":[],"last":"1"}}'
    assert parse.rest_trades(body, {"A"}) == (Page([]), "1")


def test_both_spellings_of_bitcoin_and_dogecoin_are_one_product() -> None:
    assert {product_of(text) for text in ("BTC/USD", "XBT/USD", "btc-usd", "BTCUSD", "XBTUSD")} == {"BTC-USD"}
    assert product_of("XDG/USD") == "DOGE-USD"
    assert [rest_pair(p) for p in ("BTC-USD", "DOGE-EUR", "SOL-BTC")] == ["XBTUSD", "XDGEUR", "SOLXBT"]
    assert websocket_symbol("DOGE-USD") == "DOGE/USD"


def test_paging_always_advances_and_ends() -> None:
    """A page that is one instant, asked for again from just before it, would come for ever."""
    assert next_cursor("100", "500", full=True) == "499"
    assert next_cursor("499", "500", full=True) == "500"
    assert next_cursor("500", "500", full=True) is None
    assert next_cursor("100", "500", full=False) is None
