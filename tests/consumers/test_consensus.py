"""The consensus of several exchanges as a candle: exact arithmetic, rounding, odd volumes and prices, timeframes."""

from __future__ import annotations

import random
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

import psycopg

from tests.consensus_help import MINUTE_US, VENUES, Store, candle, consensus, record
from tests.messages import T0_US


def test_the_example_of_the_requirements(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents wrong weights or rounding: 50100 x 120.5, 50050 x 95.2, 50075 x 67.8."""
    given = [("50100", "120.5"), ("50050", "95.2"), ("50075", "67.8")]
    keep(*(record(v, [candle(close=c, volume=q)]) for v, (c, q) in zip(VENUES, given, strict=True)))
    rows = consensus(conn, "close, volume, exchanges, required, left_out, candles, revision")
    assert rows == [(Decimal("50077.23"), Decimal("283.5"), list(VENUES), 3, [], 1, 0)]
    assert str(rows[0][0]) == "50077.23"


def test_arithmetic_is_exact_for_random_candles(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents floats or an intermediate rounding: compared with fractions, prices of 2 to 8 decimals."""
    chance = random.Random(5)
    given: dict[str, list[dict[str, Any]]] = {venue: [] for venue in VENUES}
    for number in range(300):
        decimals = chance.choice((2, 5, 8))
        base = Decimal(chance.randrange(1, 10**6)) / 10 ** (decimals - 2)
        for venue in VENUES:
            open_, close = (base + Decimal(chance.randrange(10)) / 10**decimals for _ in range(2))
            high, low = max(open_, close) + Decimal(1) / 10**decimals, min(open_, close)
            prices = {n: format(p, f".{decimals}f") for n, p in (("open", open_), ("high", high), ("low", low))}
            volume = format(Decimal(chance.randrange(1, 10**12)) / 10**8, ".8f")
            given[venue].append(candle(number, format(close, f".{decimals}f"), volume, **prices))
    keep(*(record(venue, candles) for venue, candles in given.items()))
    # A base of a few units of the last decimal makes venues differ by more than 1 %, and one may be left out.
    whole = [n for n in range(300) if Decimal(given["kraken"][n]["low"]) > 10]
    found = {row[0]: row[1:] for row in consensus(conn, "bucket, open, high, low, close, volume, left_out")}
    assert len(whole) > 100
    for number in whole:
        bucket = conn.execute("SELECT 'epoch'::timestamptz + %s * interval '1 us'", (T0_US + number * MINUTE_US,))
        made = found[bucket.fetchone()[0]]  # type: ignore[index]
        parts = [given[venue][number] for venue in VENUES]
        weight = sum(Fraction(p["volume"]) for p in parts)
        assert made[4] == sum(Decimal(p["volume"]) for p in parts)
        assert made[5] == []
        for name, value in zip(("open", "high", "low", "close"), made[:4], strict=True):
            exact = sum(Fraction(p[name]) * Fraction(p["volume"]) for p in parts) / weight
            written = (p[n].rstrip("0").partition(".")[2] for p in parts for n in ("open", "high", "low", "close"))
            decimals = max(2, *map(len, written))
            rounded = Fraction(int(exact * 10**decimals + Fraction(1, 2)), 10**decimals)
            assert Fraction(value) == rounded, (number, name)


def test_a_wrong_price_is_left_out_and_named_and_stored_as_its_own(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents one broken venue from pulling the price, and its candles from vanishing."""
    prices = {"binance": "100.00", "coinbase": "110.00", "kraken": "100.04"}
    keep(*(record(v, [candle(close=p)], 2) for v, p in prices.items()))
    rows = consensus(conn, "close, volume, exchanges, left_out, dispersion")
    assert rows == [(Decimal("100.02"), Decimal(2), ["binance", "kraken"], ["coinbase"], Decimal("0.00039992"))]
    own = conn.execute(
        "SELECT close FROM exchange_candles JOIN instruments USING (instrument_id) WHERE venue = 'coinbase'"
    ).fetchall()
    assert own == [(Decimal("110.00"),)]


def test_small_differences_leave_nobody_out(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents a tiny median deviation (two venues equal) from throwing out a healthy third."""
    keep(*(record(v, [candle(close=p)]) for v, p in zip(VENUES, ("100", "100", "100.5"), strict=True)))
    assert consensus(conn, "left_out, exchanges") == [([], list(VENUES))]


def test_zero_volumes(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents a division by zero: all silent, equal weights; one silent, it does not pull the price."""
    silent = [record(v, [candle(0, p, "0")]) for v, p in zip(VENUES, ("100", "101", "102"), strict=True)]
    one = [
        record(v, [candle(1, p, q)]) for v, p, q in zip(VENUES, ("100", "101", "100.5"), ("1", "0", "1"), strict=True)
    ]
    keep(*silent, *one)
    rows = consensus(conn, "close, volume")
    assert rows == [(Decimal("101.00"), Decimal(0)), (Decimal("100.25"), Decimal(2))]


def test_a_single_venue_is_its_own_consensus(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents that the single mode has no defined result."""
    quorum = {"exchanges": ["kraken"], "required": 1, "as_of_us": T0_US}
    keep(record("kraken", [candle(close="100.123", volume="2", high="101.5", low="99")], quorum=quorum))
    assert consensus(conn, "open, high, low, close, volume, exchanges, dispersion") == [
        (Decimal("100.123"), Decimal("101.5"), Decimal(99), Decimal("100.123"), Decimal(2), ["kraken"], Decimal(0))
    ]


def test_inverted_high_and_low(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents a venue's mix-up from turning the consensus upside down; its own row stays as it came."""
    turned = candle(close="100", open="100.2", high="99.9", low="100.3")
    keep(*(record(v, [turned]) for v in VENUES))
    assert consensus(conn, "high, low") == [(Decimal("100.3"), Decimal("99.9"))]
    assert conn.execute("SELECT DISTINCT high, low FROM exchange_candles").fetchall() == [
        (Decimal("99.9"), Decimal("100.3"))
    ]


def test_high_and_low_enclose_open_and_close_for_any_candles(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents a consensus candle that is none (rounding, weights, mixed-up input)."""
    chance = random.Random(11)
    values = ("open", "high", "low", "close", "volume")
    batch = {
        v: [candle(n, **{name: str(chance.randrange(1, 400)) for name in values}) for n in range(200)] for v in VENUES
    }
    keep(*(record(v, candles, 1) for v, candles in batch.items()))
    bad = conn.execute(
        "SELECT * FROM consensus_candle WHERE high < greatest(open, close, low) OR low > least(open, close, high)"
    ).fetchall()
    assert bad == []


def test_frames_are_rolled_up_from_the_minutes(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents an hour that is not what its minutes say."""
    minutes = [candle(n, str(100 + n % 7), str(n), high=str(110 + n), low=str(90 - n % 9)) for n in range(125)]
    keep(*(record(v, minutes) for v in VENUES))
    hours = consensus(conn, "open, high, low, close, volume, candles", "1h")
    expected = []
    for part in (minutes[:60], minutes[60:120], minutes[120:]):
        volume = sum(3 * Decimal(c["volume"]) for c in part)
        expected.append(
            (
                Decimal(part[0]["open"]),
                max(Decimal(c["high"]) for c in part),
                min(Decimal(c["low"]) for c in part),
                Decimal(part[-1]["close"]),
                volume,
                len(part),
            )
        )
    assert hours == expected
    assert consensus(conn, "candles", "1d") == [(120,), (5,)]  # it begins at 22:00 UTC


def test_coarser_candles_make_their_own_frames(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents hourly candles from being invisible, and minutes and hours from being mixed in one frame."""
    hour = [record(v, [candle(close="200")], granularity_s=3600) for v in VENUES]
    keep(*hour)
    assert consensus(conn, "close", "1m") == []
    assert consensus(conn, "close", "4h") == [(Decimal("200.00"),)]
    keep(*(record(v, [candle(n, "100") for n in range(60)]) for v in VENUES))
    assert consensus(conn, "close", "1m") == [(Decimal("100.00"),)] * 60
    assert consensus(conn, "close", "4h") == [(Decimal("100.00"),)]  # as much of it, and finer


def test_minutes_hide_no_hours_that_they_are_not_all_of(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents that the first minutes of a back-fill stand for an hour that the exchanges told themselves, and
    that they hide years of others."""
    hours = [candle(60 * n, str(200 + n), "60") for n in range(4)]
    keep(*(record(v, hours, granularity_s=3600) for v in VENUES))
    keep(*(record(v, [candle(60, "100"), candle(61, "101")]) for v in VENUES))
    keep(*(record(v, [candle(120 + n, "150") for n in range(60)]) for v in VENUES))
    keep(*(record(v, [candle(241, "103")]) for v in VENUES))
    assert consensus(conn, "close, volume, candles", "1h") == [
        (Decimal("200.00"), Decimal(180), 1),
        (Decimal("201.00"), Decimal(180), 1),
        (Decimal("150.00"), Decimal(180), 60),  # of minutes, which are all there
        (Decimal("203.00"), Decimal(180), 1),
        (Decimal("103.00"), Decimal(3), 1),  # all that there is of it
    ]
    keep(*(record(v, [candle(60, "7")], granularity_s=3600, product_id="ETH-USD") for v in VENUES))
    assert ("ETH-USD", Decimal("7.00"), 1) in consensus(conn, "product_id, close, candles", "1h")


def test_rounding_is_half_up(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents another rule than the one that is written down."""
    keep(record("binance", [candle(close="0.01")], 2), record("kraken", [candle(close="0.02")], 2))
    assert consensus(conn, "close") == [(Decimal("0.015").quantize(Decimal("0.01"), ROUND_HALF_UP),)]
