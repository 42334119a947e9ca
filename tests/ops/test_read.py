"""Reading: a notebook gets the stored rows, in order, and exact if requested."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import psycopg
import pytest

from consumers.instruments import Instruments
from consumers.quotes import Hours
from consumers.trades import Trades
from pipeline import read
from pipeline.core.errors import WrongUse
from tests.messages import T0_US, hour_bytes, received, store, trade, trades_record

T0 = datetime.fromtimestamp(T0_US / 1e6, UTC)


@pytest.fixture(autouse=True)
def _stored(in_env: Callable[..., None], database_url: str) -> None:
    in_env()
    side = ("buy", "sell", "unknown")
    trades = [
        trade(n, at_us=T0_US + n * 20_000_000, price=f"{100 + n}.123456789", quantity=f"0.{n:08}", side=side[n % 3])
        for n in range(1, 200)
    ]
    with psycopg.connect(database_url, autocommit=True) as conn:
        store(Trades(), conn, [received("trades", trades_record(list(reversed(trades))))])
        hour = hour_bytes([0, 0, 1500, 3_599_999], [110_000, 110_001, 110_002, 110_003])
        store(Hours(Instruments()), conn, [received("quotes", hour)])


def test_trades_come_in_order_with_their_values() -> None:
    """Prevents columns that are shifted against each other, and times off by the two epochs."""
    got = read.trades("kraken", "BTC/USD")
    assert got["trade_id"].tolist() == list(range(1, 200))
    assert got["time"][0] == np.datetime64(T0_US + 20_000_000, "us")
    assert got["price"][4] == 105.123456789
    assert got["taker_side"][:3].tolist() == ["sell", "unknown", "buy"]


def test_exact_gives_the_decimals_as_stored() -> None:
    """Prevents a rounding nobody asked for."""
    got = read.trades("kraken", "BTC-USD", exact=True)
    assert got["price"][0] == Decimal("101.123456789")
    assert got["quantity"][6] == Decimal("0.00000007")
    assert got.polars()["price"][0] == Decimal("101.123456789")
    assert got["taker_side"][2] == "buy"


def test_start_is_included_and_end_is_not() -> None:
    """Prevents rows that two neighbouring spans both have, or neither."""
    begin, end = datetime.fromtimestamp((T0_US + 20_000_000) / 1e6, UTC), "2023-11-14T22:01"
    got = read.trades("kraken", "BTC-USD", begin, end)
    assert got["trade_id"].tolist() == [1, 2]
    assert len(read.trades("kraken", "BTC-USD", end="2000-01-01")) == 0
    assert len(read.trades("kraken", "BTC-USD", end="2000-01-01").pandas()) == 0


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("2026-02-01", "2026-01-01", "start 2026-02-01.* is after end 2026-01-01"),
        (T0, "1980-01-01", "is after end"),
        (np.datetime64(T0_US, "us"), None, "start: '2023-11-14T22:00:00.000000' is not a time"),
        (None, 1_700_000_000, "end: '1700000000' is not a time"),
    ],
)
def test_a_span_that_is_none_is_one_sentence(start: Any, end: Any, said: str) -> None:
    """Prevents an empty frame, which looks like an empty market, where two times were exchanged."""
    asks: list[Callable[..., Any]] = [
        partial(ask, "kraken", "BTC-USD") for ask in (read.trades, read.scan_trades, read.trade_objects)
    ]
    asks.append(partial(read.candles, "kraken", "BTC-USD", "1h"))
    for ask in asks:
        with pytest.raises(WrongUse, match=said):
            ask(start=start, end=end)


@pytest.mark.parametrize("exact", [False, True])
def test_a_lazy_frame_of_no_time_is_empty(exact: bool) -> None:
    """Prevents an error of Polars where the other ways of reading give no rows, and columns of other types."""
    for scan, names in ((read.scan_trades, ("kraken", "BTC-USD")), (read.scan_quotes, ("dukascopy", "EUR-USD"))):
        empty = scan(*names, start=T0, end=T0, exact=exact).collect()
        assert len(empty) == 0
        assert empty.schema == scan(*names, exact=exact).collect().schema


def test_candles_are_those_of_the_view(database_url: str) -> None:
    """Prevents a second definition of a candle."""
    got = read.candles("kraken", "BTC-USD", "5m")
    with psycopg.connect(database_url) as conn:
        rows = conn.execute(
            "SELECT bucket, open, close, volume, vwap, ticks FROM candles_5m WHERE venue = 'kraken' ORDER BY 1"
        ).fetchall()
    assert [
        (str(t), float(o), float(c), float(v), float(w), n)
        for t, o, c, v, w, n in ((np.datetime64(r[0].replace(tzinfo=None), "us"), *r[1:]) for r in rows)
    ] == [
        (str(got["time"][i]), got["open"][i], got["close"][i], got["volume"][i], got["vwap"][i], got["ticks"][i])
        for i in range(len(got))
    ]


def test_bid_candles_have_no_vwap_and_quotes_keep_their_order() -> None:
    """Prevents a missing number that reads as zero, and quotes of one instant that change places."""
    assert np.isnan(read.candles("dukascopy", "EURUSD", "1h")["vwap"]).all()
    assert read.candles("dukascopy", "EURUSD", "1h", exact=True)["vwap"].tolist() == [None]
    got = read.quotes("dukascopy", "EUR-USD")
    assert got["bid"].tolist() == [1.1, 1.10001, 1.10002, 1.10003]
    assert read.quote_candles("dukascopy", "EUR-USD", "1m")["ask_open"].tolist()[0] == 1.10002


def test_frames_of_pandas_and_polars_know_utc() -> None:
    """Prevents times that a notebook shifts into its own zone."""
    frame = read.candles("kraken", "BTC-USD", "1m").pandas()
    assert str(frame.index.tz) == "UTC"
    assert frame.index[0].to_pydatetime() == T0
    assert read.trades("kraken", "BTC-USD").polars()["time"].dtype.time_zone == "UTC"
    assert read.trades("kraken", "BTC-USD").pandas()["taker_side"].value_counts()["buy"] == 66


@pytest.mark.parametrize("spelling", ["XBT/USD", "btc-usd", "BTCUSD", "xbtusd", " BTC/USD "])
def test_names_are_understood_as_elsewhere(spelling: str) -> None:
    """Prevents "nothing is stored" for a name that the producer takes."""
    assert len(read.trades("Kraken", spelling, end="2023-11-14T22:01")) == 2


def test_wrong_names_are_one_sentence() -> None:
    """Prevents an empty frame where a name was mistyped."""
    with pytest.raises(WrongUse, match="no data of kraken ETH-USD is stored"):
        read.trades("kraken", "ETHUSD")
    for hostile in ("../BTC", "BTC/USD/EUR", "BTC\0USD", "\u0661/USD", "A" * 1000 + "/USD"):
        with pytest.raises(WrongUse, match="is not a valid product id"):
            read.trades("kraken", hostile)
    with pytest.raises(WrongUse, match="is not a valid venue"):
        read.trades("kra/ken", "BTC-USD")
    with pytest.raises(WrongUse, match="not a valid timeframe"):
        read.candles("kraken", "BTC-USD", "2m")
    with pytest.raises(WrongUse, match="invalid time"):
        read.candles("kraken", "BTC-USD", "1m", start="yesterday")
