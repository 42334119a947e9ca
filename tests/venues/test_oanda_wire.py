"""OANDA's lines as its documents show them, the requests, and lines that are none."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.core.errors import Refused, WrongUse
from schemas.records import Quote
from venues.events import (
    Acknowledged,
    Resubscribe,
    SubscriptionRefused,
    TickerFrame,
    Unreadable,
    VenueNotice,
    VenueTime,
)
from venues.oanda import parse
from venues.oanda.settings import OandaSettings
from venues.oanda.stream import OandaVenue
from venues.oanda.symbols import asset_class_of, instrument_of, product_of

AT_US = 1477557523094548
PRICE: dict[str, Any] = {
    "type": "PRICE",
    "time": "2016-10-27T08:38:43.094548890Z",
    "bids": [{"price": "114.308", "liquidity": 1000000}, {"price": "114.306", "liquidity": 2000000}],
    "asks": [{"price": "114.312", "liquidity": 1000000}],
    "closeoutBid": "114.304",
    "closeoutAsk": "114.316",
    "status": "tradeable",
    "tradeable": True,
    "instrument": "EUR_JPY",
}
TICKER = TickerFrame("EUR-JPY", AT_US, Quote("114.308", "114.312", "1000000", "1000000"))
GRANTED = b'{"status":200}'
REFUSED = json.dumps(
    {"status": 400, "reason": '{"errorMessage":"Invalid value specified for \'instruments\'"}'}
).encode()


@pytest.fixture
def venue(tmp_path: Path) -> OandaVenue:
    settings = OandaSettings(token=SecretStr("secret"), account="101-1", product_ids=("EUR/JPY", "NOPE/USD", "XAU/USD"))
    made = OandaVenue(settings, tmp_path, threading.Event())
    made.opened()
    return made


def line(**change: Any) -> bytes:
    return json.dumps(PRICE | change).encode()


def instruments(text: str) -> str:
    return str(json.loads(text)["target"]).rpartition("instruments=")[2]


def test_a_price_and_a_heartbeat() -> None:
    """Prevents a price that went through a float, and a time that is ours."""
    assert parse.read(line()) == [TICKER]
    assert parse.read(line(bids=[])) == []
    assert parse.read(b'{"type":"HEARTBEAT","time":"2016-10-27T08:38:43.094548890Z"}') == [VenueTime(AT_US)]
    assert parse.read(b'{"type":"SOMETHING"}') == []


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"status":"no"}',
        line(time="soon"),
        line(instrument=7),
        line(instrument="EUR JPY"),
        line(bids=[{"price": 1.5e400, "liquidity": 1}]),
        line(asks=[{}]),
        line(asks={"price": "1"}),
    ],
)
def test_a_line_that_is_none_is_unreadable(bad: bytes) -> None:
    said = parse.read(bad)
    assert isinstance(said, list)
    assert isinstance(said[0], Unreadable)


def test_a_request_names_the_account_and_hides_no_header(venue: OandaVenue) -> None:
    request = json.loads(venue.subscribe("pricing", ["EUR-JPY", "XAU-USD"], 1))
    assert request["target"] == "/v3/accounts/101-1/pricing/stream?instruments=EUR_JPY%2CXAU_USD"
    assert request["headers"]["Authorization"] == "Bearer secret"


def test_the_price_in_force_is_a_snapshot(venue: OandaVenue) -> None:
    """Prevents the price of Friday from telling the venue's clock on Sunday."""
    venue.subscribe("pricing", ["EUR-JPY"], 1)
    assert venue.read(GRANTED) == [Acknowledged("pricing", "EUR-JPY", 1)]
    (first,), (second,) = venue.read(line()), venue.read(line())
    assert isinstance(first, TickerFrame)
    assert (first.snapshot, second) == (True, TICKER)


def test_a_refused_request_names_what_was_asked_alone(venue: OandaVenue) -> None:
    """Prevents one wrong instrument from costing the others."""
    venue.subscribe("pricing", ["EUR-JPY", "NOPE-USD"], 1)
    reason = "400 Invalid value specified for 'instruments'"
    assert venue.read(REFUSED) == [SubscriptionRefused("pricing", None, reason, 1)]
    venue.subscribe("pricing", ["EUR-JPY"], 2)
    assert venue.read(GRANTED) == [Acknowledged("pricing", "EUR-JPY", 2)]
    assert instruments(venue.subscribe("pricing", ["NOPE-USD"], 3)) == "EUR_JPY%2CNOPE_USD"
    assert venue.read(REFUSED) == [SubscriptionRefused("pricing", "NOPE-USD", reason, 3)]
    assert instruments(venue.subscribe("pricing", ["XAU-USD"], 4)) == "EUR_JPY%2CXAU_USD"
    assert venue.read(GRANTED) == [Acknowledged("pricing", "XAU-USD", 4)]
    assert instruments(venue.unsubscribe("pricing", ["EUR-JPY"], 5)) == "XAU_USD"
    assert venue.read(GRANTED) == []


def test_what_a_later_request_left_out_is_asked_for_anew(venue: OandaVenue) -> None:
    """Prevents a product that is silent because two requests were made before either was answered."""
    venue.subscribe("pricing", ["EUR-JPY"], 1)
    venue.subscribe("pricing", ["XAU-USD"], 2)
    venue.read(GRANTED)
    acknowledged, anew = venue.read(GRANTED)
    assert acknowledged == Acknowledged("pricing", "XAU-USD", 2)
    assert isinstance(anew, Resubscribe)
    assert anew.product_id == "EUR-JPY"


def test_answers_that_nobody_asked_for(venue: OandaVenue) -> None:
    assert isinstance(venue.read(GRANTED)[0], VenueNotice)
    venue.unsubscribe("pricing", ["EUR-JPY"], 1)
    assert isinstance(venue.read(REFUSED)[0], VenueNotice)
    assert isinstance(venue.read(b'{"status":502,"reason":"<html>"}')[0], VenueNotice)
    with pytest.raises(Refused):
        venue.newest_trade("EUR-JPY")


def test_without_a_key_there_is_no_stream(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="set OANDA_TOKEN and OANDA_ACCOUNT"):
        OandaVenue(OandaSettings(), tmp_path, threading.Event())


@pytest.mark.parametrize(
    ("product", "asset_class"),
    [
        ("EUR-USD", "forex"),
        ("XAU-EUR", "metal"),
        ("BCO-USD", "commodity"),
        ("SPX500-USD", "index"),
        ("USB10Y-USD", "bond"),
        ("BTC-USD", "crypto"),
    ],
)
def test_names_and_classes(product: str, asset_class: str) -> None:
    """Prevents gold from being missing in `forex_ticks`, and an index from being in it."""
    assert product_of(instrument_of(product)) == product
    assert asset_class_of(product) == asset_class
