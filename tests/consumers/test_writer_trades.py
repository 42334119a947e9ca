"""Trades into the database: nothing twice, nothing lost, candles exact, whatever the order. No broker here."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers.trades import Trades
from pipeline.database.ledger import Head, Ledger
from pipeline.verify import verify
from tests.messages import T0_US, TOPIC, received, store, trade, trades_record
from venues.adapter import Proof


def wipe(conn: Any) -> None:
    for table in ("trades", "trade_candle_1m", "trade_candle_1h", "holes"):
        conn.execute("DELETE FROM " + table)
    conn.execute("UPDATE trade_coverage SET ids = '{}', rows = 0, last_ts = NULL")


def put(conn: Any, *frames: list[Any], kind: Trades | None = None, **fields: Any) -> tuple[int, list[Any]]:
    return store(kind or Trades(), conn, [received("trades", trades_record(list(f), **fields)) for f in frames])


def proven(conn: Any) -> list[str]:
    return [text for verdict in verify(conn) for text in verdict.wrong]


def test_the_same_message_twice_adds_nothing(conn: Any) -> None:
    frame = [trade(1), trade(2), trade(3)]
    assert put(conn, frame) == (3, [])
    assert put(conn, frame, frame) == (0, [])
    assert conn.execute(
        "SELECT count(*), sum(ticks)::int FROM trades, LATERAL (SELECT 1) x, trade_candle_1h"
    ).fetchone() == (3, 9)
    assert proven(conn) == []


def test_websocket_and_rest_times_of_one_trade_are_one_trade(conn: Any) -> None:
    """Kraken's two ways differ by up to a microsecond; ids decide, also across the border of a minute."""
    rng = random.Random(5)
    minute = 60_000_000_000
    stamps = [T0_US * 1000 + rng.randrange(86_400_000_000_000) for _ in range(99_000)]
    stamps += [T0_US * 1000 + i * minute + minute - rng.randrange(1, 1000) for i in range(1000)]  # its last microsecond
    stamps.sort()
    truncated = [trade(i, ns // 1000) for i, ns in enumerate(stamps, 1)]
    as_float = [trade(i, round(float(ns) / 1e9 * 1e6)) for i, ns in enumerate(stamps, 1)]
    kind = Trades()
    assert put(conn, truncated, kind=kind) == (100_000, [])
    assert put(conn, as_float, kind=kind, origin="repair") == (0, [])
    assert conn.execute("SELECT sum(ticks)::int FROM trade_candle_1m").fetchone() == (100_000,)
    assert proven(conn) == []


def test_another_price_or_time_under_a_stored_id_is_a_dead_letter(conn: Any) -> None:
    put(conn, [trade(1), trade(2)])
    rows, letters = put(conn, [trade(1, price="101"), trade(2, T0_US + 2_000_003), trade(3)])
    assert rows == 1
    assert [(letter.reason, letter.row) for letter in letters] == [("contradiction", 0), ("contradiction", 1)]
    assert conn.execute("SELECT count(*) FROM holes").fetchone() == (0,), "the id is stored: no hole"
    assert proven(conn) == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [({"price": text}, "price") for text in ("-1", "0", "NaN", "Infinity", "12x", "\u0661", "1_0", "", "1" * 17)]
    + [({"price": text}, "price") for text in ("1" * 10_000, "1e9999", "1e-9999", "0e-9999", "\0", "1\n")]
    + [({"quantity": text}, "quantity") for text in ("-0.1", "1e400", "9" * 10_000)]
    + [({"timestamp_us": at}, "time") for at in (0, 1 << 60, -(1 << 63), (1 << 63) - 1)],
)
def test_a_bad_row_is_a_dead_letter_the_rest_is_stored_and_its_id_stays_missing(
    conn: Any, bad: dict, reason: str
) -> None:
    """Prevents an explanation by one look: what the stream garbled, REST may have in order."""
    rows, letters = put(conn, [trade(1), {**trade(2), **bad}, trade(3)])
    assert (rows, [(letter.reason, letter.row) for letter in letters]) == (2, [(reason, 1)])
    assert conn.execute("SELECT count(*) FROM holes").fetchone() == (0,)
    assert conn.execute("SELECT first_id, last_id FROM trade_gaps").fetchall() == [(2, 2)]


@pytest.mark.parametrize(
    ("record", "topic", "reason"),
    [
        (b"\xff\xff\xff\xff", TOPIC["trades"], "schema"),
        (trades_record([trade(1)], product="ETH-USD"), TOPIC["trades"], "topic"),
        (trades_record([trade(1)], venue="coinbase"), TOPIC["trades"], "topic"),
        (trades_record([trade(1)], product="btc-usd"), TOPIC["trades"], "topic"),
    ],
)
def test_a_message_that_is_none_is_refused_whole(record: Any, topic: str, reason: str) -> None:
    from pipeline.core.errors import BadData

    with pytest.raises(BadData) as refused:
        Trades().read(received("trades", record, topic))
    assert refused.value.reason == reason


def test_decimals_are_stored_as_written(conn: Any) -> None:
    """A float anywhere on the way would show."""
    texts = ["0.000000000000000001", "9999999999999999.999999999999999999", "1E-7", "84098.4", "0.10", "12"]
    put(conn, [trade(i, price=text, quantity=text) for i, text in enumerate(texts, 1)])
    stored = [row[0] for row in conn.execute("SELECT price::text FROM trades ORDER BY trade_id")]
    assert stored == [
        "0.000000000000000001",
        "9999999999999999.999999999999999999",
        "0.0000001",
        "84098.4",
        "0.10",
        "12",
    ]
    assert proven(conn) == []


def test_a_gap_shows_and_closes_and_findings_explain(conn: Any) -> None:
    put(conn, [trade(1), trade(2), trade(9)])
    assert conn.execute("SELECT first_id, last_id FROM trade_gaps").fetchall() == [(3, 8)]
    assert "ids 3 to 8" in proven(conn)[0]
    put(conn, [trade(4), trade(5)], origin="repair")
    hole = {"first_id": 3, "last_id": 3, "reason": "venue_has_none", "confirmed_at_us": T0_US}
    put(conn, [], holes=[hole, {**hole, "first_id": 6, "last_id": 8}])
    put(conn, [], holes=[hole])
    assert conn.execute("SELECT count(*) FROM trade_gaps").fetchone() == (2,)  # so far nobody vouches for it
    ledger = Ledger(conn)
    ledger.sign("kraken", "BTC-USD", [(3, 8)], "venue_has_none")
    assert conn.execute("SELECT count(*) FROM trade_gaps").fetchone() == (0,)
    ledger.write_heads([Head("kraken", "BTC-USD", "crypto", 1, 9, 9, 0, 0, "rest", Proof.IDS)])
    assert conn.execute("SELECT rows, missing, explained, share_complete::int FROM completeness").fetchall() == [
        (5, 0, 4, 1)
    ]
    assert proven(conn) == []


TICK = st.tuples(st.integers(1, 60), st.integers(0, 3), st.integers(1, 10**6), st.integers(0, 10**6))
FRAMES = st.lists(st.lists(TICK, min_size=1, max_size=8), min_size=1, max_size=12)


@given(FRAMES, st.randoms(use_true_random=False), st.integers(1, 5))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_any_batches_any_repetition_give_the_same_candles(
    conn: Any, frames: Any, rng: Any, batches: int
) -> None:
    """Shuffled, doubled, split over batches and restarts (a new `Trades` knows nothing): as if sent once in order."""
    wipe(conn)
    unique = {
        t[0]: trade(t[0], T0_US + t[0] * 7_000_000, str(t[2]), f"0.{t[3]:06d}") for frame in frames for t in frame
    }
    messages = [trades_record([unique[t[0]] for t in frame]) for frame in frames] * 2
    rng.shuffle(messages)
    for i in range(batches):
        store(Trades(), conn, [received("trades", m) for m in messages[i::batches]])
    assert conn.execute("SELECT array_agg(trade_id::int ORDER BY trade_id) FROM trades").fetchone()[0] == sorted(unique)
    wrong = [text for text in proven(conn) if "neither stored nor explained" not in text]
    assert wrong == []
    first, last = unique[min(unique)], unique[max(unique)]
    opened, closed = conn.execute("SELECT first(open, bucket), last(close, bucket) FROM trade_candle_1m").fetchone()
    assert (str(opened), str(closed)) == (first["price"], last["price"])


def test_plain_and_odd_messages_of_one_batch(conn: Any) -> None:
    """Plain messages are read at once and others one by one: their rows must not change places, nor their letters."""
    dice = random.Random(3)
    frames, bad = [], {}
    for number in range(120):
        first = 10 * number
        frame = [trade(first + n, price=f"{dice.randrange(1, 10**9)}.{n}") for n in range(dice.randrange(1, 4))]
        if number % 7 == 3:
            frame.append(trade(first + 8, price="0", quantity="1e-7"))
            bad[first + 8] = number
        elif number % 7 == 5:
            frame.insert(0, trade(first + 9, quantity="1e-7"))
        frames.append(frame)
    rows, letters = put(conn, *frames)
    good = {t["trade_id"]: t for frame in frames for t in frame if t["trade_id"] not in bad}
    assert rows == len(good)
    stored = conn.execute("SELECT trade_id, price, quantity, taker_side FROM trades").fetchall()
    assert {row[0]: row[1:] for row in stored} == {
        number: (Decimal(t["price"]), Decimal(t["quantity"]), "buy") for number, t in good.items()
    }
    assert [(letter.content.trade_id, letter.row) for letter in letters] == [
        (number, len(frames[frame]) - 1) for number, frame in bad.items()
    ]
