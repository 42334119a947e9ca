"""The standard trade is the same whichever way it came, and no time or price passes through a float."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import BadData
from pipeline.core.times import iso_to_us, seconds_to_us, us_to_iso
from schemas.records import TradeRow, TradesMessage
from schemas.trade import Trade


def test_websocket_and_rest_give_the_same_trade() -> None:
    stream = Trade.from_kraken_websocket_response("BTC/USD", "84095.7", "0.00275723", "2026-09-26T18:09:13.157776Z")
    rest = Trade.from_kraken_rest_api_response("BTC/USD", "84095.70000", "0.00275723", "1790446153.1577763")
    assert stream == rest
    assert stream.product_id == "BTC-USD"
    assert stream.timestamp == "2026-09-26T18:09:13.157776Z"
    assert stream.timestamp_ms == 1790446153157


def test_to_dict_gives_numbers_and_text_on_request() -> None:
    trade = Trade.from_kraken_websocket_response(
        "ETH/USD", "2689.10", "0.00038914", "2026-09-26T18:07:40.132395Z", trade_id=66819466, taker_side="sell"
    )
    expected = {
        "product_id": "ETH-USD",
        "price": 2689.1,
        "quantity": 0.00038914,
        "timestamp": "2026-09-26T18:07:40.132395Z",
        "timestamp_ms": 1790446060132,
        "trade_id": 66819466,
        "taker_side": "sell",
    }
    assert trade.to_dict() == expected
    assert trade.to_dict(exact=True) == {**expected, "price": "2689.10", "quantity": "0.00038914"}
    assert isinstance(trade.price, Decimal)


def test_a_trade_of_a_message() -> None:
    row = TradeRow(5, 1, "1.50", "2", "buy")
    (trade,) = Trade.from_message(TradesMessage("kraken", "BTC-USD", "crypto", "live", 1, [row]))
    assert (trade.trade_id, trade.price, trade.taker_side) == (5, Decimal("1.50"), "buy")


def test_trades_of_columns_are_those_that_were_stored() -> None:
    """What `pipeline.read.trades(..., exact=True)` gives, without a float in between."""
    columns = {
        "time": np.array(["2026-09-26T18:07:40.132395", "2026-09-26T18:07:41"], dtype="datetime64[us]"),
        "trade_id": np.array([7, 8]),
        "price": np.array([Decimal("2689.10"), Decimal("0.000000000000000001")], dtype=object),
        "quantity": np.array([Decimal("1"), Decimal("2")], dtype=object),
        "taker_side": np.array(["sell", "buy"]),
    }
    first, second = Trade.from_columns("ETH/USD", columns)
    assert first.to_dict(exact=True)["price"] == "2689.10"
    assert (first.timestamp, first.trade_id, first.taker_side) == ("2026-09-26T18:07:40.132395Z", 7, "sell")
    assert (second.price, second.timestamp_us) == (Decimal("0.000000000000000001"), 1790446061000000)


@pytest.mark.parametrize("price", ["NaN", "Infinity"])
def test_no_number_is_no_price(price: str) -> None:
    with pytest.raises(ValueError, match=r"finite|number"):
        Trade(product_id="BTC-USD", price=Decimal(price), quantity=Decimal(1), timestamp_us=1)


@given(st.integers(0, 4_000_000_000_000_000))
def test_times_survive_both_ways(timestamp_us: int) -> None:
    assert iso_to_us(us_to_iso(timestamp_us)) == timestamp_us
    text = Trade.unix_seconds_to_iso_format(f"{timestamp_us // 1_000_000}.{timestamp_us % 1_000_000:06d}")
    assert iso_to_us(text) == timestamp_us
    seconds = Trade.iso_format_to_unix_seconds(text)
    assert round(seconds * 1_000_000) == timestamp_us


@given(st.integers(1_500_000_000, 2_000_000_000), st.integers(0, 999_999_999))
def test_nanoseconds_by_stream_and_by_rest_differ_by_a_microsecond_at_most(second: int, ns: int) -> None:
    """Otherwise a trade that came both ways would be refused as two that contradict each other."""
    stream = iso_to_us(us_to_iso(second * 1_000_000 + ns // 1000))
    rest = seconds_to_us(repr((second * 1_000_000_000 + ns) / 1e9))
    assert abs(stream - rest) <= 1


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("2026-08-09T21:05:48Z", 1786309548000000),
        ("2026-08-09T21:05:48.5Z", 1786309548500000),
        ("2026-08-09T21:05:48.59377133Z", 1786309548593771),
        ("2026-08-09T21:05:48.999999999Z", 1786309548999999),
        ("2026-08-09T23:05:48.5+02:00", 1786309548500000),
    ],
)
def test_any_number_of_digits_is_truncated_to_microseconds(text: str, us: int) -> None:
    assert iso_to_us(text) == us


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Z",
        "2026-08-09T21:05:48",
        "2026-13-09T21:05:48Z",
        "2026-08-09T21:05:48.Z",
        "2026-08-09T21:05:48.1x3Z",
        "1786309548",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(BadData):
        iso_to_us(text)


@pytest.mark.parametrize("text", ["", "-1", "1e9", "nan", "1.", "1.2.3", "١"])
def test_what_are_no_seconds_is_refused(text: str) -> None:
    with pytest.raises(BadData):
        seconds_to_us(text)
