"""The consensus of several exchanges: exact arithmetic, the quorum, who is left out, late and revised candles."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

import psycopg
import pytest

from consumers.candles import Candles
from consumers.consensus import sweep
from consumers.trades import Trades
from tests.messages import T0_US, received, store, trade, trades_record

MINUTE_US = 60_000_000
VENUES = ("binance", "coinbase", "kraken")
Store = Callable[..., tuple[int, list[Any]]]


def candle(number: int = 0, close: str = "100", volume: str = "1", final: bool = True, **prices: str) -> dict[str, Any]:
    """The `number`-th minute; flat at `close` unless told otherwise."""
    values = dict.fromkeys(("open", "high", "low"), close) | prices
    return {"bucket_us": T0_US + number * MINUTE_US, "close": close, "volume": volume, "final": final, **values}


def record(venue: str, candles: list[dict[str, Any]], required: int | None = 3, **fields: Any) -> dict[str, Any]:
    made = {
        "venue": venue,
        "product_id": "BTC-USD",
        "asset_class": "crypto",
        "origin": "history",
        "received_at_us": T0_US,
        "as_of_us": T0_US + 86_400_000_000,
        "granularity_s": 60,
        "candles": candles,
    }
    if required:
        made["quorum"] = {"exchanges": list(VENUES), "required": required, "as_of_us": T0_US}
    return made | fields


def message(content: dict[str, Any]) -> Any:
    local = f"{content['venue']}.{content['product_id'].lower()}"
    return received("candles", content, f"persistent://t/candles/{local}")


@pytest.fixture
def conn(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True, options="-c timezone=UTC") as made:
        yield made


@pytest.fixture
def keep(conn: psycopg.Connection[Any]) -> Store:
    """Store records as one batch: (new rows, letters)."""
    kind = Candles()
    return lambda *records: store(kind, conn, [message(content) for content in records])


def consensus(conn: psycopg.Connection[Any], columns: str, frame: str = "1m") -> list[Any]:
    return conn.execute(f"SELECT {columns} FROM consensus_candles_{frame} ORDER BY bucket").fetchall()  # type: ignore[call-overload]


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


def test_no_candle_below_the_quorum_and_one_when_the_late_venue_arrives(
    conn: psycopg.Connection[Any], keep: Store
) -> None:
    """Prevents a consensus of too few, and one that never comes though the quorum is met in the end."""
    keep(record("binance", [candle(close="100")]), record("kraken", [candle(close="101")]))
    assert consensus(conn, "close") == []
    assert conn.execute("SELECT required, present, missing FROM consensus_missing").fetchall() == [
        (3, ["binance", "kraken"], ["coinbase"])
    ]
    keep(record("coinbase", [candle(close="102")]))
    assert consensus(conn, "close, revision") == [(Decimal("101.00"), 0)]
    assert conn.execute("SELECT count(*) FROM consensus_missing").fetchone() == (0,)


def test_two_of_three_gives_a_candle_that_the_late_venue_revises(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents that a reader cannot tell that a consensus changed under his eyes."""
    keep(record("binance", [candle(close="100")], 2), record("kraken", [candle(close="101")], 2))
    assert consensus(conn, "close, exchanges, revision") == [(Decimal("100.50"), ["binance", "kraken"], 0)]
    keep(record("coinbase", [candle(close="102")], 2))
    assert consensus(conn, "close, exchanges, revision") == [(Decimal("101.00"), list(VENUES), 1)]
    keep(record("coinbase", [candle(close="102")], 2))
    assert consensus(conn, "revision") == [(1,)]


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


def test_three_of_three_with_one_left_out_is_no_consensus(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents a venue that was left out from counting towards the quorum."""
    keep(*(record(v, [candle(close=p)]) for v, p in zip(VENUES, ("100", "130", "100"), strict=True)))
    assert consensus(conn, "close") == []
    assert conn.execute("SELECT missing, left_out FROM consensus_missing").fetchall() == [([], ["coinbase"])]


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


def test_running_candles_take_no_part(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents a consensus of a minute that is not over."""
    keep(*(record(v, [candle(final=v != "kraken")]) for v in VENUES))
    assert consensus(conn, "close") == []
    keep(record("kraken", [candle()]))
    assert len(consensus(conn, "close")) == 1


def test_the_consensus_does_not_depend_on_the_order_of_arrival(database_url: str) -> None:
    """Prevents a candle that says something else after a replay. Every order of six messages, one transaction each."""
    messages = [
        message(record("kraken", [candle(close="100", final=False)], as_of_us=T0_US + 1)),
        message(record("kraken", [candle(close="101")], as_of_us=T0_US + 2)),
        message(record("kraken", [candle(close="102")], as_of_us=T0_US + 3)),
        message(record("kraken", [candle(close="101.5", final=False)], as_of_us=T0_US + 4)),
        message(record("binance", [candle(close="102.5")], as_of_us=T0_US + 3)),
        message(record("binance", [candle(close="102.6", volume="3")], as_of_us=T0_US + 3)),
    ]
    seen = set()
    with psycopg.connect(database_url, autocommit=True) as conn:
        for order in itertools.islice(itertools.permutations(messages), 0, None, 7):
            conn.execute("TRUNCATE exchange_candles, consensus_candle, consensus_quorum")
            kind = Candles()
            for one in (*order, order[0], order[3]):
                store(kind, conn, [one])
            venues = conn.execute("SELECT close, final, as_of FROM exchange_candles ORDER BY close").fetchall()
            seen.add(
                (tuple(venues), tuple(conn.execute("SELECT close, volume, taken FROM consensus_candle").fetchall()))
            )
    assert len(seen) == 1
    stored, made = seen.pop()
    assert [row[:2] for row in stored] == [(Decimal("102"), True), (Decimal("102.6"), True)]
    assert made[0][:2] == (Decimal("102.45"), Decimal(4))


def test_the_quorum_of_the_last_run_holds_and_other_exchanges_make_it_anew(
    conn: psycopg.Connection[Any], keep: Store
) -> None:
    """Prevents rows of an earlier choice of exchanges from staying in the consensus, also on replay."""
    keep(*(record(v, [candle(0, p)]) for v, p in zip(VENUES, ("100", "100.4", "100.2"), strict=True)))
    assert consensus(conn, "close") == [(Decimal("100.20"),)]
    later = {"exchanges": ["binance", "coinbase"], "required": 2, "as_of_us": T0_US + 1}
    keep(record("binance", [candle(1)], quorum=later))
    assert consensus(conn, "close, exchanges") == [(Decimal("100.20"), ["binance", "coinbase"])]
    assert conn.execute("SELECT close FROM consensus_candle ORDER BY bucket").fetchall()[0] == (Decimal("100.20"),)
    keep(record("kraken", [candle(0, "100.6")]))  # of the earlier run, again
    assert consensus(conn, "close, exchanges") == [(Decimal("100.20"), ["binance", "coinbase"])]


def test_a_run_of_one_exchange_feeds_the_consensus_of_several(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents a look at a single exchange from switching the quorum off."""
    keep(record("binance", [candle()], 2))
    single = {"exchanges": ["kraken"], "required": 1, "as_of_us": T0_US + 9}
    keep(record("kraken", [candle()], quorum=single))
    assert consensus(conn, "exchanges, required") == [(["binance", "kraken"], 2)]


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
    keep(*(record(v, [candle(close="100")]) for v in VENUES))
    assert consensus(conn, "close", "4h") == [(Decimal("100.00"),)]


def test_our_own_trades_take_part_where_the_ledger_is_complete(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents an exchange from counting twice, and a minute with a hole from being taken for the truth."""
    trades = [trade(n, T0_US + n * 6_000_000, price="100.3", quantity="2") for n in range(1, 40) if n != 25]
    store(Trades(), conn, [received("trades", trades_record(trades))])
    others = [record(v, [candle(n, "100") for n in range(4)]) for v in ("binance", "coinbase")]
    keep(*others, record("kraken", [candle(n, "100.6") for n in range(3)]))
    rows = consensus(conn, "close, volume, exchanges, from_trades")
    # minute 0 has trades 1..9, minute 1 10..19; minute 2 lacks trade 25; minute 3 is not followed by a trade
    assert [row[2] for row in rows] == [list(VENUES)] * 3
    assert [row[3] for row in rows] == [["kraken"], ["kraken"], []]
    assert [row[1] for row in rows] == [Decimal(20), Decimal(22), Decimal(3)]
    assert rows[2][0] == Decimal("100.20")


def test_trades_that_come_later_take_part(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents a back-fill of trades from never reaching the consensus, and a sweep from changing what is right."""
    keep(*(record(v, [candle(n, "100") for n in range(3)], 2) for v in ("binance", "coinbase")))
    trades = [trade(n, T0_US + n * 6_000_000, price="100.3", quantity="2") for n in range(1, 25)]
    store(Trades(), conn, [received("trades", trades_record(trades))])
    assert sweep(conn, 36_500) == 2
    rows = consensus(conn, "exchanges, from_trades, revision")
    assert rows == [(list(VENUES), ["kraken"], 1)] * 2 + [(["binance", "coinbase"], [], 0)]
    assert consensus(conn, "candles, revision", "1h") == [(3, 2)]
    assert sweep(conn, 36_500) == 0


def test_rounding_is_half_up(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents another rule than the one that is written down."""
    keep(record("binance", [candle(close="0.01")], 2), record("kraken", [candle(close="0.02")], 2))
    assert consensus(conn, "close") == [(Decimal("0.015").quantize(Decimal("0.01"), ROUND_HALF_UP),)]
