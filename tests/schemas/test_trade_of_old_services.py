"""Code written against the older services' `Trade` runs as it stands."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.trade import Trade

MOMENT = "2025-11-10T17:23:53.971744Z"
OLD: dict[str, Any] = {
    "product_id": "BTC/USD",
    "price": 50000.1,
    "quantity": 0.5,
    "timestamp": MOMENT,
    "timestamp_ms": 1762795433971,
}


def test_the_old_constructor_and_its_dumps() -> None:
    trade = Trade(**OLD)
    assert trade.model_dump() == {
        "product_id": "BTC-USD",
        "price": Decimal("50000.1"),
        "quantity": Decimal("0.5"),
        "timestamp": MOMENT,
        "timestamp_ms": 1762795433971,
        "trade_id": None,
        "taker_side": "unknown",
    }
    numbers = trade.to_dict()
    assert (numbers["price"], numbers["quantity"]) == (50000.1, 0.5)
    assert numbers["timestamp_ms"] == 1762795433971
    assert Trade(**trade.model_dump()) == trade
    assert Trade.model_validate_json(trade.model_dump_json()) == trade


def test_each_time_alone_is_enough() -> None:
    by_text = Trade(product_id="BTC/USD", price=1, quantity=1, timestamp=MOMENT)
    by_us = Trade(product_id="BTC/USD", price=1, quantity=1, timestamp_us=1762795433971744)
    by_ms = Trade(product_id="BTC/USD", price=1, quantity=1, timestamp_ms=1762795433971)
    assert by_text == by_us
    assert (by_text.timestamp_ms, by_text.timestamp_us) == (1762795433971, 1762795433971744)
    assert by_ms.timestamp == "2025-11-10T17:23:53.971000Z"


@pytest.mark.parametrize("ms", [1762795433971, 1762795433972, 1762795433971.0, "1762795433971"])
def test_milliseconds_may_be_rounded_as_a_float_would(ms: Any) -> None:
    assert Trade(**{**OLD, "timestamp_ms": ms}).timestamp_us == 1762795433971744


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"timestamp_ms": 1762795434971}, "give one moment"),
        ({"timestamp_ms": 1762795433}, "give one moment"),  # seconds
        ({"timestamp": "yesterday"}, "invalid time 'yesterday'"),
        ({"timestamp": 1762795433}, "invalid time"),
        ({"timestamp_ms": "soon"}, "timestamp_ms must be a whole number"),
        ({"timestamp_ms": 1.5}, "timestamp_ms must be a whole number"),
        ({"timestamp_ms": float("nan")}, "timestamp_ms must be a whole number"),
        ({"timestamp": None, "timestamp_ms": None}, "a time is missing"),
        ({"timestamp": None, "timestamp_ms": 10**18}, "before the year 2100"),
        ({"product_id": "b@d"}, "is not a valid product id"),
        ({"price": "many"}, "valid decimal"),
    ],
)
def test_what_is_wrong_is_a_validation_error_that_says_so(wrong: dict[str, Any], said: str) -> None:
    """Two times that contradict each other would otherwise be stored as whichever is read."""
    with pytest.raises(ValidationError, match=said):
        Trade(**{**OLD, **wrong})


def test_the_old_converters() -> None:
    assert Trade.unix_seconds_to_iso_format(1762795433.9717445) == MOMENT
    assert Trade.iso_format_to_unix_seconds(MOMENT) == 1762795433.971744
    stream = Trade.from_kraken_websocket_response("BTC/USD", 50000.1, 0.5, MOMENT)
    rest = Trade.from_kraken_rest_api_response("BTC/USD", 50000.1, 0.5, 1762795433.9717445)
    assert stream == rest == Trade(**OLD)
