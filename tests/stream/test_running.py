"""The running candle against the views, in every time frame: with all ticks stored, with none, and halfway."""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from consumers.trades import Trades
from pipeline.core.numeric import quotient
from pipeline.core.timeframes import TIMEFRAMES, Timeframe
from pipeline.core.times import from_us
from pipeline.database import query
from pipeline.stream.items import items_of_trades
from pipeline.stream.running import RunningCandles, Stored
from schemas import encode
from tests.dashboard_help import KRAKEN
from tests.messages import T0_US, TOPIC, received, store, trade, trades_record

DAY_US = 86_400_000_000
BEGIN_US = T0_US // DAY_US * DAY_US


@pytest.fixture
def conn(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True, options="-c timezone=UTC") as made:
        yield made


def crossing(count: int) -> list[Any]:
    """Trades of one day whose ids and times cross by up to two hours."""
    chance = random.Random(7)
    step = (DAY_US - 3 * 3_600_000_000) // count
    late = [chance.choice((0, 0, 70, 700, 7_200)) * 1_000_000 for _ in range(count)]
    return [trade(n + 1, BEGIN_US + n * step + late[n], str(1000 + n), "0.25") for n in range(count)]


def viewed(conn: psycopg.Connection[Any], frame: str) -> dict[int, Any]:
    rows = conn.execute(
        "SELECT extract(epoch FROM bucket)::bigint, open, high, low, close, volume, vwap, ticks"
        f" FROM candles_{frame} WHERE venue = 'kraken'"
    )
    return {row[0] * 1_000_000: row[1:] for row in rows}


def running(conn: psycopg.Connection[Any], frame: Timeframe, trades: list[Any]) -> dict[int, Any]:
    """The candles of what is stored and of these trades, which came since."""
    live = RunningCandles(KRAKEN, frame)
    buckets = sorted({frame.bucket_us(one["timestamp_us"]) for one in trades})
    for tick in items_of_trades(TOPIC["trades"], encode("trades", trades_record(trades))):
        live.add(tick)  # type: ignore[arg-type]
    asked = live.question(*buckets)
    live.answer(asked, query.rows(conn, Stored, asked.query, asked.values))
    made = {bucket: live.candle(bucket) for bucket in buckets}
    return {b: (c.open, c.high, c.low, c.close, c.volume, c.vwap, c.ticks) for b, c in made.items() if c is not None}


def test_open_and_close_are_of_the_least_and_greatest_id_in_every_frame(conn: psycopg.Connection[Any]) -> None:
    """Prevents frames and streams that disagree where ids and times cross: 5m by the minute, 1h by the id."""
    trades = crossing(150)
    ends = {}
    for frame in TIMEFRAMES.values():
        for one in trades:  # ascending by id
            bucket = frame.bucket_us(one["timestamp_us"])
            first, _ = ends.setdefault((frame.name, bucket), (one["price"], ""))
            ends[frame.name, bucket] = first, one["price"]
    for count in (0, 75, 150):
        if count:
            store(Trades(), conn, [received("trades", trades_record(trades[:count]))])
        for frame in TIMEFRAMES.values():
            for bucket, candle in running(conn, frame, trades).items():
                found = candle[0], candle[3]
                assert found == tuple(map(Decimal, ends[frame.name, bucket])), (frame.name, from_us(bucket), count)
    for frame in TIMEFRAMES.values():
        assert viewed(conn, frame.name) == running(conn, frame, trades), frame.name


@pytest.mark.parametrize("most", [4, 12, 34])
def test_quotients_are_those_of_the_database(conn: psycopg.Connection[Any], most: int) -> None:
    """Prevents a vwap that is 0 for a coin of 1e-12, or that changes in its last digits once it is stored."""
    chance = random.Random(most)
    pairs = []
    while len(pairs) < 3_000:
        digits = [chance.randrange(10 ** chance.randrange(1, most + 1)) for _ in range(2)]
        one, other = (Decimal(number).scaleb(-chance.randrange(0, 19)) for number in digits)
        if other:
            pairs.append((one, other))
    texts = [[str(format(pair[n], "f")) for pair in pairs] for n in (0, 1)]
    rows = conn.execute("SELECT (a / b)::text FROM unnest(%s::numeric[], %s::numeric[]) AS t (a, b)", texts).fetchall()
    assert [format(quotient(*pair), "f") for pair in pairs] == [row[0] for row in rows]


def test_sums_are_exact_beyond_28_digits(conn: psycopg.Connection[Any]) -> None:
    """Prevents candles of tokens with 18 decimals that lose digits while they run."""
    trades = [
        trade(n, BEGIN_US + n, f"9{n}345678.1234567{n}9012345678", f"81234567{n}.123456789012345678")
        for n in range(1, 9)
    ]
    store(Trades(), conn, [received("trades", trades_record(trades[:3]))])
    half = running(conn, TIMEFRAMES["5m"], trades)
    store(Trades(), conn, [received("trades", trades_record(trades))])
    assert half == viewed(conn, "5m")
