"""A program that follows a product: each trade once and in order, exact candles, gaps, and no loss over a break."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from consumers import trades as trades_writer
from dashboard import queries
from dashboard.store import Store
from pipeline.broker.client import Bus
from pipeline.core.errors import WrongUse
from pipeline.core.settings import DatabaseSettings, load
from pipeline.core.timeframes import TIMEFRAMES
from pipeline.stream import CandleEvent, GapEvent, TradeEvent, astream, stream
from schemas.trade import Trade
from tests.messages import T0_US, received, store, trade, trades_record
from tests.stream_help import Venue, take

MINUTE_US = 60_000_000


def ids(found: list[Any]) -> list[int | None]:
    return [event.trade.trade_id for event in found]


def test_each_trade_comes_once_also_over_breaks_within_a_message(bus: Bus, database_url: str) -> None:
    """Prevents trades that are lost or given twice when a program stops in the middle of a message and goes on."""
    venue = Venue(bus)
    venue.trades([trade(1)])
    with stream("Kraken", "BTC/USD") as events:
        venue.trades([trade(2), trade(3)])
        venue.trades([trade(n) for n in range(3, 8)], origin="snapshot")  # 3 a second time
        venue.trades([trade(90, at_us=T0_US)], origin="history")  # a load
        (first, second, third) = take(events, 3)
    assert ids([first, second, third]) == [2, 3, 4]
    assert isinstance(second, TradeEvent)
    assert isinstance(second.trade, Trade)
    assert (second.trade.price, second.trade.product_id, third.kind) == (Decimal("100.5"), "BTC-USD", "trades")
    venue.trades([trade(1), trade(8)], origin="repair")  # while nobody listens
    with stream("kraken", "BTC-USD", after=second.position) as events:
        assert ids(take(events, 6)) == [4, 5, 6, 7, 1, 8]
        kept = events.position
    with stream("kraken", "BTC-USD", after=kept) as events:
        venue.trades([trade(9)])
        assert ids(take(events, 1)) == [9]
        assert events.poll(0.5) is None


def test_gaps_of_the_product_come_with_its_trades(bus: Bus, database_url: str) -> None:
    """Prevents events of other products, and a position that goes on for one kind only."""
    venue = Venue(bus)
    venue.trades([trade(1)])
    with stream("kraken", "BTC-USD", ("trades", "gaps")) as events:
        venue.gap(product_id="ETH-USD", first_id=1, last_id=2)
        venue.gap(first_id=2, last_id=3)
        (gap,) = take(events, 1)
        assert isinstance(gap, GapEvent)
        assert (gap.record["event"], gap.record["first_id"]) == ("opened", 2)
        venue.trades([trade(2), trade(3)], origin="repair")
        take(events, 2)
    venue.gap(event="repaired", first_id=2, last_id=3)
    venue.trades([trade(4)])
    with stream("kraken", "BTC-USD", ("trades", "gaps"), after=events.position) as again:
        found = {event.kind: event for event in take(again, 2)}
        assert again.poll(0.5) is None
    assert ids([found["trades"]]) == [4]
    assert isinstance(found["gaps"], GapEvent)
    assert found["gaps"].record["event"] == "repaired"


class Market:
    """Trades on the topic and in the database, by a clock of the test's own."""

    def __init__(self, bus: Bus, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_us = T0_US
        self._venue, self._url = Venue(bus), url
        for module in ("candles", "running"):
            monkeypatch.setattr(f"pipeline.stream.{module}.now_us", lambda: self.now_us)

    def trade(self, number: int, at_s: float, price: str, *, kept: bool = True, **fields: Any) -> None:
        """On the topic at `at_s` after the start; `kept`: also stored."""
        one = trade(number, at_us=T0_US + int(at_s * 1e6), price=price)
        self.now_us = max(self.now_us, one["timestamp_us"])
        self._venue.trades([one], **fields)
        if kept:
            self.store(one, **fields)

    def store(self, *some: Any, **fields: Any) -> None:
        with psycopg.connect(self._url, autocommit=True) as conn:
            store(trades_writer.Trades(), conn, [received("trades", trades_record(list(some), **fields))])

    def stored(self, minute: int) -> list[Any]:
        """The database's candle as the dashboard's rows."""
        reader = Store(load(DatabaseSettings))
        begin = T0_US + minute * MINUTE_US
        (row,) = asyncio.run(
            queries.candles_between(reader, "kraken", "BTC-USD", TIMEFRAMES["1m"], begin, begin + MINUTE_US)
        )
        reader.close()
        return row


def next_candle(events: Any, *, closed: bool, minute: int) -> CandleEvent:
    """The next candle that is such; running ones may be told several times."""
    while True:
        (event,) = take(events, 1)
        assert isinstance(event, CandleEvent)
        if event.closed == closed and event.start_us == T0_US + minute * MINUTE_US:
            return event
        assert not (closed and event.closed), f"unexpected {event}"


def test_candles_are_the_databases_running_closed_and_corrected(
    bus: Bus, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents candles that differ from the database's, that close early or twice, or that hide a late trade."""
    market = Market(bus, database_url, monkeypatch)
    market.trade(1, 1, "100.5")
    with stream("kraken", "BTC-USD", ("candles_1m",)) as events:
        market.trade(2, 2, "101.5", kept=False)
        running = next_candle(events, closed=False, minute=0)
        while running.ticks < 2:
            running = next_candle(events, closed=False, minute=0)
        assert (running.open, running.close, running.ticks) == (Decimal("100.5"), Decimal("101.5"), 2)
        market.trade(3, 61, "99", kept=False)
        closed = next_candle(events, closed=True, minute=0)
        assert (closed.high, closed.ticks, closed.volume) == (Decimal("101.5"), 2, Decimal("0.5"))
        market.store(trade(2, at_us=T0_US + 2_000_000, price="101.5"))
        assert market.stored(0)[1:7] == [closed.json()[n] for n in ("open", "high", "low", "close", "volume", "vwap")]
        market.trade(4, 3, "120", origin="repair")  # of the closed minute
        late = next_candle(events, closed=True, minute=0)
        assert (late.high, late.ticks) == (Decimal("120"), 3)
        kept = late.position
    market.store(trade(3, at_us=T0_US + 61_000_000, price="99"))
    for number, minute in enumerate(range(2, 6), 5):
        market.trade(number, 60 * minute, str(100 + minute))
    market.trade(10, 5, "130", origin="repair")  # of minute 0, while nobody listens
    with stream("kraken", "BTC-USD", ("candles_1m",), after=kept) as events:
        found = {}
        while len(found) < 5:
            (event,) = take(events, 1)
            assert isinstance(event, CandleEvent)
            if event.closed:
                minute = (event.start_us - T0_US) // MINUTE_US
                assert minute not in found, "closed twice"
                found[minute] = event
        assert sorted(found) == [0, 1, 2, 3, 4]
        assert found[0].high == Decimal("130")
        for minute, event in found.items():
            assert market.stored(minute)[1:6] == [event.json()[n] for n in ("open", "high", "low", "close", "volume")]


def test_asyncio_reads_the_same(bus: Bus, database_url: str) -> None:
    """Prevents a loop that is held up, and threads that stay when the iteration is left."""
    venue = Venue(bus)
    venue.trades([trade(1)])

    async def play() -> list[Any]:
        found: list[Any] = []
        events = astream("kraken", "BTC-USD")
        pending = asyncio.ensure_future(anext(events))
        while not found:
            await asyncio.to_thread(venue.trades, [trade(2)])
            done, _ = await asyncio.wait([pending], timeout=1)
            found += [one.result() for one in done]
        await events.aclose()  # type: ignore[attr-defined]
        return found

    assert ids(asyncio.run(asyncio.wait_for(play(), 60))) == [2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("kraken", "BTC-USD", ("candles_2m",)), "'candles_2m' is not a valid kind of event; choose from trades, gaps"),
        (("kraken", "BTC-USD", ()), "kinds is empty"),
        (("kraken", "b@d"), "'b@d' is not a valid product id"),
        (("kra ken", "BTC-USD"), "is not a valid venue"),
    ],
)
def test_wrong_names_are_one_sentence(in_env: Callable[..., None], arguments: Any, said: str) -> None:
    in_env()
    with pytest.raises(WrongUse, match=said):
        stream(*arguments)
