"""The charts against hostile neighbours: a browser that sleeps, strangers' trades, a database that is away or hangs."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest

from dashboard.charts.feed import Feeds
from dashboard.charts.live_candle import LiveCandles
from dashboard.charts.stream import ChartStream
from dashboard.store import Store
from pipeline.broker.admin import Admin
from pipeline.core.errors import Unavailable
from pipeline.core.runtime import now_us
from pipeline.core.settings import DatabaseSettings, PulsarSettings, load
from pipeline.core.timeframes import TIMEFRAMES
from pipeline.stream.items import Item, Link, Tick, items_of_trades
from schemas import encode
from tests.cut_line import CutLine
from tests.dashboard_help import KRAKEN, save
from tests.messages import T0_US, TOPIC, trade, trades_record


def test_a_browser_that_takes_nothing_is_dropped(
    in_env: Callable[..., None], database_url: str, stop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents events that pile up for a browser that sleeps."""
    monkeypatch.setattr("dashboard.charts.stream.TAKEN_WITHIN_S", 0.05)

    class Asleep:
        async def write(self, _data: bytes) -> None:
            await asyncio.Event().wait()

    async def play() -> None:
        reader, feeds = Store(load(DatabaseSettings)), Feeds(load(PulsarSettings))
        try:
            await ChartStream(reader, feeds, KRAKEN, TIMEFRAMES["1m"]).run(Asleep())  # type: ignore[arg-type]
        finally:
            await asyncio.to_thread(feeds.close)
            reader.close()

    with pytest.raises(ConnectionResetError):
        asyncio.run(play())


def test_listening_makes_no_topic(stop: Any) -> None:
    """Prevents topics of products that nobody streams, made by looking at their chart."""
    settings = load(PulsarSettings)

    async def play() -> None:
        feeds = Feeds(settings)
        told: asyncio.Queue[Item] = asyncio.Queue()

        def hear(items: Sequence[Item]) -> None:
            for item in items:
                told.put_nowait(item)

        leave = feeds.listen("tickers", "dukascopy", "EUR-USD", hear)
        for _ in range(2):  # the first says how it is now, the second comes from the thread that looked
            assert await told.get() == Link(False)
        leave()
        await asyncio.to_thread(feeds.close)

    asyncio.run(play())
    assert Admin(settings).topics(f"{settings.tenant}/tickers") == []


@pytest.mark.parametrize(
    "fields",
    [
        {"at_us": 2**62},
        {"at_us": -1},
        {"price": "1E+999999"},
        {"price": "NaN"},
        {"quantity": "-1"},
        {"price": "1" * 99},
    ],
)
def test_what_no_writer_stores_is_not_drawn(fields: dict[str, Any]) -> None:
    """Prevents a hostile message that ends the chart, or moves it into another century."""
    record = trades_record([trade(1, **{"at_us": now_us(), **fields}), trade(2, at_us=now_us())])
    assert [
        one.order for one in items_of_trades(TOPIC["trades"], encode("trades", record)) if isinstance(one, Tick)
    ] == [2]


def test_ticks_do_not_pile_up_while_the_database_is_away(
    in_env: Callable[..., None], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents memory and time that grow with every trade while the database is away, and a wrong candle afterwards."""
    in_env()
    monkeypatch.setattr("pipeline.stream.running.MOST", 50)
    trades = [trade(n, at_us=T0_US + n * 1000, price=f"{100 + n % 7}.10") for n in range(1, 201)]
    bucket = T0_US // 60_000_000 * 60_000_000

    def tick(one: Any) -> Tick:
        price, size = Decimal(one["price"]), Decimal(one["quantity"])
        return Tick(one["timestamp_us"], one["trade_id"], price, size, T0_US, time.monotonic())

    async def play() -> tuple[Any, Any, Any]:
        reader = Store(load(DatabaseSettings))
        live = LiveCandles(reader, KRAKEN, TIMEFRAMES["1m"])
        save(database_url, trades[:1])
        await live.sync()
        for one in trades:  # the database is asked for nothing meanwhile
            live.add(tick(one))
            assert live._count <= 50
        away = live.row(bucket)
        save(database_url, trades[:150])
        await live.sync()
        behind = live.row(bucket)
        save(database_url, trades)
        await live.sync()
        well = live.row(bucket)
        reader.close()
        return away, behind, well

    away, behind, well = asyncio.run(play())
    assert away is None
    assert behind is None or behind[-1] == 200
    assert well[-1] == 200


def test_a_frozen_database_is_said_and_costs_nothing(
    in_env: Callable[..., None], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents questions that wait for minutes, and threads that all hang in the same silence."""
    monkeypatch.setattr("dashboard.store.ANSWER_WITHIN_S", 0.5)
    monkeypatch.setattr("dashboard.store.AWAY_S", 0.2)
    address = urlsplit(database_url)
    line = CutLine((address.hostname or "", address.port or 0))
    in_env(DATABASE_URL=database_url.replace(f":{address.port}/", f":{line.port}/"))

    async def play() -> None:
        reader = Store(load(DatabaseSettings))
        while await reader.probe() is not None:
            pass
        for hurt in (line.freeze, line.cut):
            hurt()
            refused = await asyncio.gather(*(reader.rows(dict, "SELECT 1") for _ in range(100)), return_exceptions=True)
            assert {type(one) for one in refused} == {Unavailable}
            line.mend()
            while await reader.probe() is not None:
                await asyncio.sleep(0.01)
        assert await reader.rows(dict, "SELECT 2 AS n") == [{"n": 2}]
        reader.close()

    asyncio.run(play())
    line.close()


def test_the_stop_does_not_wait_for_a_frozen_database(
    env: Callable[..., dict[str, str]], database_url: str, python: str
) -> None:
    """Prevents a dashboard that has to be killed, with its supervisor waiting."""
    address = urlsplit(database_url)
    line = CutLine((address.hostname or "", address.port or 0))
    line.freeze()
    there = env(DATABASE_URL=database_url.replace(f":{address.port}/", f":{line.port}/"))
    with subprocess.Popen([python, "-m", "dashboard"], env=there, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        next(text for text in child.stdout if '"process.started"' in text)
        child.terminate()
        assert child.wait(60) == 0
    line.close()
