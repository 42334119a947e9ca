"""Who takes part in the consensus: the quorum, who is left out, who comes late, whose trades count."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from consumers import consensus as consensus_of
from consumers.candles import Candles
from consumers.consensus import sweep
from consumers.trades import Trades
from tests.consensus_help import VENUES, Store, candle, consensus, message, record
from tests.messages import T0_US, received, store, trade, trades_record


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


def test_three_of_three_with_one_left_out_is_no_consensus(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents a venue that was left out from counting towards the quorum."""
    keep(*(record(v, [candle(close=p)]) for v, p in zip(VENUES, ("100", "130", "100"), strict=True)))
    assert consensus(conn, "close") == []
    assert conn.execute("SELECT missing, left_out FROM consensus_missing").fetchall() == [([], ["coinbase"])]


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


def test_an_unsigned_claim_completes_no_minute(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents a claim that nobody looked into, which is all a message can make, from hiding missing trades."""
    trades = [trade(n, T0_US + n * 6_000_000, price="100.3", quantity="2") for n in range(1, 25) if n != 5]
    claim = {"first_id": 5, "last_id": 5, "reason": "venue_has_none", "confirmed_at_us": T0_US}
    store(Trades(), conn, [received("trades", trades_record(trades, holes=[claim]))])
    assert conn.execute("SELECT first_id, signed_at FROM holes").fetchall() == [(5, None)]
    keep(*(record(v, [candle(n, "100") for n in range(2)], 2) for v in VENUES))
    assert consensus(conn, "volume, from_trades") == [(Decimal(3), []), (Decimal(22), ["kraken"])]
    conn.execute("UPDATE holes SET signed_at = now()")
    keep(record("kraken", [candle(0, "100.1")], 2, as_of_us=T0_US + 90_000_000_000))
    assert consensus(conn, "volume, from_trades") == [(Decimal(18), ["kraken"]), (Decimal(22), ["kraken"])]


def test_the_consensus_of_an_hour_takes_our_trades_by_their_ids(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents an hour of the consensus whose open and close are not those of the candle of the same trades."""
    at = {1: 130, 2: 70, 3: 3_590, 4: 3_500, 5: 3_700}  # seconds: the ids cross a minute at both ends
    trades = [trade(n, T0_US + s * 1_000_000, price=f"100.{n}", quantity="2") for n, s in at.items()]
    store(Trades(), conn, [received("trades", trades_record(trades))])
    quorum = {"exchanges": ["kraken"], "required": 1, "as_of_us": T0_US}
    keep(record("kraken", [candle(close="90")], quorum=quorum, granularity_s=3600))
    assert consensus(conn, "open, close, from_trades", "1h") == [(Decimal("100.1"), Decimal("100.4"), ["kraken"])]


def save(conn: psycopg.Connection[Any], *trades: Any, **fields: Any) -> None:
    store(Trades(), conn, [received("trades", trades_record(list(trades), **fields))])


def numbered(*ids: int) -> list[Any]:
    return [trade(n, T0_US + n * 6_000_000, price="100.3", quantity="2") for n in ids]


def test_a_trade_that_a_finding_had_denied_changes_the_consensus(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents a consensus that says it is of our trades and lacks one for ever, because it was complete before."""
    claim = {"first_id": 5, "last_id": 5, "reason": "venue_has_none", "confirmed_at_us": T0_US}
    save(conn, *numbered(1, 2, 3, 4, *range(6, 25)), holes=[claim])
    keep(*(record(v, [candle(n, "100") for n in range(2)], 2) for v in VENUES))
    assert consensus(conn, "volume, from_trades") == [(Decimal(3), []), (Decimal(22), ["kraken"])]
    conn.execute("UPDATE holes SET signed_at = now()")
    assert sweep(conn, 36_500) == 1  # the finding completes the minute
    assert consensus(conn, "volume, from_trades")[0] == (Decimal(18), ["kraken"])
    save(conn, *numbered(5))
    assert sweep(conn, 36_500) == 1
    assert consensus(conn, "volume, from_trades, revision")[0] == (Decimal(20), ["kraken"], 2)
    assert sweep(conn, 36_500) == 0


def test_a_late_trade_with_a_higher_id_changes_the_consensus(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents that the trades of a minute, once complete, are taken for all of them: ids and times may cross."""
    save(conn, *numbered(*range(1, 25)))
    keep(*(record(v, [candle(n, "100") for n in range(2)], 2) for v in VENUES))
    assert consensus(conn, "volume, from_trades") == [(Decimal(20), ["kraken"]), (Decimal(22), ["kraken"])]
    late = trade(26, T0_US + 10_000_000, price="100.4", quantity="3")
    save(conn, late)  # 25 is missing, so the minute is not complete any more
    assert sweep(conn, 36_500) == 1
    assert consensus(conn, "volume, from_trades")[0] == (Decimal(3), [])
    save(conn, *numbered(25, 27))
    assert sweep(conn, 36_500) == 1
    rows = consensus(conn, "volume, close, from_trades, revision")
    assert rows[0] == (Decimal(23), Decimal("100.37"), ["kraken"], 2)
    assert consensus(conn, "revision", "1h") == [(2,)]


def test_a_consensus_of_uncounted_trades_is_made_again(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents a candle from before the trades were counted from lacking a late one for ever."""
    save(conn, *numbered(*range(1, 25)))
    keep(*(record(v, [candle(n, "100") for n in range(2)], 2) for v in VENUES))
    conn.execute("UPDATE consensus_candle SET trades = NULL")
    save(conn, trade(25, T0_US + 10_000_000, price="100.4", quantity="3"), trade(26, T0_US + 130_000_000))
    assert sweep(conn, 36_500) == 2
    assert consensus(conn, "volume, from_trades")[:2] == [(Decimal(23), ["kraken"]), (Decimal(22), ["kraken"])]
    assert sweep(conn, 36_500) == 0


def test_a_sweep_of_years_lets_the_writer_in(
    conn: psycopg.Connection[Any], keep: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a year of trades that were loaded late from keeping the writer of candles waiting until it is done."""
    keep(*(record(v, [candle(n, "100") for n in range(7)], 2) for v in ("binance", "coinbase")))
    save(conn, *numbered(*range(1, 75)))
    monkeypatch.setattr("consumers.consensus.SWEPT", 3)
    at_once = []

    def counted(conn: psycopg.Connection[Any]) -> int:
        at_once.append(conn.execute("SELECT count(*) FROM touched_consensus").fetchone())
        return made(conn)

    made = consensus_of.store
    monkeypatch.setattr("consumers.consensus.store", counted)
    assert sweep(conn, 36_500) == 7
    assert at_once == [(3,), (3,), (1,)]


def test_a_trade_of_nothing_is_no_revision(conn: psycopg.Connection[Any], keep: Store) -> None:
    """Prevents a revision that nobody can see, and a sweep that touches the same minute for ever."""
    save(conn, *numbered(*range(1, 5), *range(6, 25)))
    conn.execute(
        "INSERT INTO holes (instrument_id, first_id, last_id, reason, confirmed_at, signed_at)"
        " SELECT instrument_id, 5, 5, 'venue_has_none', now(), now() FROM instruments"
    )
    keep(*(record(v, [candle(n, "100") for n in range(2)], 2) for v in VENUES))
    save(conn, trade(5, T0_US + 30_000_000, price="100.3", quantity="0"))
    assert sweep(conn, 36_500) == 1
    assert consensus(conn, "volume, from_trades, revision")[0] == (Decimal(18), ["kraken"], 0)
    assert sweep(conn, 36_500) == 0
