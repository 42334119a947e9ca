"""The running candle: that it is exactly what the database will say, whatever order, doubling or repair comes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from consumers.trades import Trades
from dashboard import queries
from dashboard.charts.live_candle import LiveCandles
from dashboard.store import Store
from pipeline.core.settings import DatabaseSettings, load
from pipeline.core.timeframes import TIMEFRAMES
from pipeline.stream.instruments import Instrument
from pipeline.stream.items import Tick
from tests.messages import T0_US, received, store, trade, trades_record

KRAKEN = Instrument(1, "kraken", "BTC-USD", "crypto", "trades", "contiguous ids")


def tick(one: Any) -> Tick:
    price, size = Decimal(one["price"]), Decimal(one["quantity"])
    return Tick(one["timestamp_us"], one["trade_id"], price, size, T0_US, time.monotonic())


def messy_trades(seed: int, count: int = 400) -> list[Any]:
    """Ids that follow each other, times that mostly do, over some minutes."""
    chance = random.Random(seed)
    return [
        trade(
            number,
            at_us=T0_US + number * 700_000 - chance.randrange(3_000_000),
            price=str(Decimal(chance.randrange(9_000_000, 11_000_000)) / 100),
            quantity=str(Decimal(chance.randrange(1, 10**8)) / 10**8),
        )
        for number in range(1, count + 1)
    ]


@pytest.mark.parametrize("frame", ["1m", "5m", "1h"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_shown_candle_is_the_databases_whatever_is_stored_when(
    in_env: Callable[..., None], database_url: str, frame: str, seed: int
) -> None:
    """Prevents trades that count twice or never, because they were stored while the chart was opened."""
    in_env()
    chance = random.Random(seed)
    trades = messy_trades(seed)

    async def play() -> dict[int, Any]:
        reader = Store(load(DatabaseSettings))
        live = LiveCandles(reader, KRAKEN, TIMEFRAMES[frame])
        stored, heard = 0, 0
        buckets: set[int] = set()
        with psycopg.connect(database_url, autocommit=True) as conn:
            store(Trades(), conn, [received("trades", trades_record(trades[:20]))])
            stored = 20
            while heard < len(trades) or stored < len(trades):
                # the topic runs ahead of the database, which catches up in pieces; some are heard twice
                for one in trades[heard : heard + chance.randrange(40)]:
                    buckets.add(live.add(tick(one)))
                    heard += 1
                if heard and chance.random() < 0.3:
                    live.add(tick(trades[chance.randrange(heard)]))
                upto = min(heard, stored + chance.randrange(60)) if heard > stored else stored
                if upto > stored:
                    store(Trades(), conn, [received("trades", trades_record(trades[stored:upto]))])
                    stored = upto
                if chance.random() < 0.4:
                    buckets.update(await live.sync())
            buckets.update(await live.sync())
        shown = {bucket: live.row(bucket) for bucket in sorted(buckets)}
        first = await queries.candles_between(
            reader, "kraken", "BTC-USD", TIMEFRAMES[frame], min(buckets), max(buckets) + TIMEFRAMES[frame].width_us
        )
        reader.close()
        return {"shown": [row for row in shown.values() if row], "stored": first}

    result = asyncio.run(play())
    stored_rows = {row[0]: row for row in result["stored"]}
    assert result["shown"], "nothing was shown"
    for row in result["shown"]:
        assert row == stored_rows[row[0]]


def test_candle_before_it_is_stored_is_the_candle_after(in_env: Callable[..., None], database_url: str) -> None:
    """Prevents a candle that jumps when the database catches up: made of the topic alone, then read."""
    in_env()
    trades = [trade(n, at_us=T0_US + n * 1000, price=f"{100 + n % 7}.10") for n in range(1, 50)]

    async def play() -> tuple[Any, Any]:
        reader = Store(load(DatabaseSettings))
        live = LiveCandles(reader, KRAKEN, TIMEFRAMES["1m"])
        with psycopg.connect(database_url, autocommit=True) as conn:
            store(Trades(), conn, [received("trades", trades_record(trades[:1]))])
            await live.sync()
            for one in trades:
                live.add(tick(one))
            before = live.row(T0_US // 60_000_000 * 60_000_000)
            store(Trades(), conn, [received("trades", trades_record(trades))])
            await live.sync()
            after = live.row(T0_US // 60_000_000 * 60_000_000)
        reader.close()
        return before, after

    before, after = asyncio.run(play())
    assert before == after
    assert before[-1] == len(trades)


def test_a_trade_that_the_writer_refused_leaves_the_candle(
    in_env: Callable[..., None], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a candle that shows for ever what is in dead letters."""
    in_env()
    monkeypatch.setattr("pipeline.stream.running.REFUSED_AFTER_S", -1.0)

    async def play() -> Any:
        reader = Store(load(DatabaseSettings))
        live = LiveCandles(reader, KRAKEN, TIMEFRAMES["1m"])
        good = [trade(n, at_us=T0_US + n) for n in (1, 3)]
        with psycopg.connect(database_url, autocommit=True) as conn:
            for one in [*good, trade(2, at_us=T0_US + 2, price="999999")]:
                live.add(tick(one))
            store(Trades(), conn, [received("trades", trades_record(good))])
            await live.sync()
        row = live.row(T0_US // 60_000_000 * 60_000_000)
        reader.close()
        return row

    assert asyncio.run(play())[2] == "100.5"


def test_history_is_paged_without_gap_or_double(in_env: Callable[..., None], database_url: str) -> None:
    """Prevents candles that are lost or doubled at the border of two pages, also across empty weeks."""
    in_env()
    times = [T0_US + n * 60_000_000 for n in range(100)] + [
        T0_US + 30 * 86_400_000_000 + n * 60_000_000 for n in range(50)
    ]
    trades = [trade(n, at_us=at) for n, at in enumerate(times, 1)]

    async def play() -> list[int]:
        reader = Store(load(DatabaseSettings))
        with psycopg.connect(database_url, autocommit=True) as conn:
            store(Trades(), conn, [received("trades", trades_record(trades))])
        got: list[int] = []
        before, more = None, True
        while more:
            rows, more = await queries.candles_before(reader, KRAKEN, TIMEFRAMES["1m"], before, 37)
            assert rows or not more
            got = [row[0] for row in rows] + got
            before = got[0] * 1_000_000
        reader.close()
        return got

    assert asyncio.run(play()) == [at // 60_000_000 * 60 for at in times]
