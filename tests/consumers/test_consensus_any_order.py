"""The consensus after anything that may happen is the one made from scratch of what is stored then."""

from __future__ import annotations

import random
from typing import Any

import psycopg
import pytest

from consumers import consensus
from consumers.trades import Trades
from tests.consensus_help import VENUES, Store, candle, record
from tests.messages import T0_US, received, store, trade, trades_record

WHAT = (
    "SELECT bucket, open, high, low, close, volume, dispersion, taken, takers, left_out, from_trades, trades"
    " FROM consensus_candle ORDER BY consensus_id, bucket",
    "SELECT bucket, open, high, low, close, volume, dispersion, taken, left_out, from_trades, candles"
    " FROM consensus_candle_1h ORDER BY consensus_id, bucket",
)


@pytest.mark.parametrize("seed", range(6))
def test_the_consensus_is_what_is_stored_says(conn: psycopg.Connection[Any], keep: Store, seed: int) -> None:
    """Prevents a candle that a correction, another quorum, a late trade or a finding left as it was, in any timeframe:
    the dispersion was, where the corrected exchange had no volume."""
    chance = random.Random(seed)
    free, steps = list(range(1, 200)), 60
    for step in range(1, steps):
        what = chance.random()
        if what < 0.55:
            venue, at = chance.choice(VENUES), T0_US + chance.randrange(1, 5) * 3_600_000_000 * 24
            made = [
                candle(n, str(chance.choice((100, 100.5, 101, 130))), str(chance.randrange(3)), chance.random() < 0.8)
                for n in chance.sample(range(70), chance.randrange(1, 30))
            ]
            keep(record(venue, made, None, as_of_us=at + step))
        elif what < 0.7:
            exchanges = chance.sample(VENUES, chance.randrange(2, 4))
            quorum = {"exchanges": exchanges, "required": chance.randrange(1, len(exchanges) + 1)}
            keep(record("kraken", [], quorum=quorum | {"as_of_us": T0_US + chance.randrange(1000)}))
        elif what < 0.9 and free:
            first = chance.randrange(len(free))
            ids, free[first : first + 40] = free[first : first + 40], []
            gone = [chance.choice(ids)] if chance.random() < 0.3 else []
            claims = [{"first_id": n, "last_id": n, "reason": "venue_has_none", "confirmed_at_us": T0_US} for n in gone]
            rows = [trade(n, T0_US + n * 20_000_000, price="100.3") for n in ids if n not in gone]
            store(Trades(), conn, [received("trades", trades_record(rows, holes=claims))])
        elif what < 0.95:
            conn.execute("UPDATE holes SET signed_at = now() WHERE signed_at IS NULL")
        else:
            consensus.sweep(conn, 36_500)
    consensus.sweep(conn, 36_500)
    found = [conn.execute(query.encode()).fetchall() for query in WHAT]
    conn.execute("TRUNCATE consensus_candle, consensus_candle_1h")
    consensus.prepare(conn)
    for (one,) in conn.execute("SELECT consensus_id FROM consensus_quorum").fetchall():
        with conn.transaction():
            conn.execute(
                "INSERT INTO touched_consensus (consensus_id, bucket)"
                " SELECT %s, to_timestamp(%s / 1e6) + n * interval '1 minute' FROM generate_series(0, 100) AS n",
                (one, T0_US),
            )
            consensus.store(conn)
    assert found == [conn.execute(query.encode()).fetchall() for query in WHAT]
    assert found[0]
