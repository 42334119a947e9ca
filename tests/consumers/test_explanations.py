"""The gap filler signs what it found itself, however much others claim. No broker here."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.gap_filler.explanations import Explanations
from consumers.trades import Trades
from pipeline.database.ledger import Ledger
from tests.messages import T0_US, received, store, trade, trades_record

OURS = ("coinbase", "BTC-USD")


def claim(conn: Any, venue: str, *spans: tuple[int, int], reason: str = "venue_has_none") -> None:
    """A message that says so."""
    holes = [{"first_id": a, "last_id": b, "reason": reason, "confirmed_at_us": T0_US} for a, b in spans]
    put(conn, venue, holes=holes)


def put(conn: Any, venue: str, *ids: int, holes: Any = ()) -> None:
    record = trades_record([trade(i) for i in ids], venue=venue, holes=list(holes))
    assert store(Trades(), conn, [received("trades", record, f"persistent://t/trades/{venue}.btc-usd")])[1] == []


@pytest.fixture
def mine() -> Explanations:
    return Explanations(lambda gap, reason: None)


def test_a_thousand_claims_of_others_hold_up_none_of_ours(conn: Any, mine: Explanations) -> None:
    """Prevents one message about ids nobody asked for from ending the explanations of all venues for ever."""
    put(conn, "kraken", 1, 5_000)
    claim(conn, "kraken", *((i, i) for i in range(10, 2_010, 2)))
    put(conn, "coinbase", 6, 8)
    mine.add(OURS, [(7, 7)], "venue_has_none")
    claim(conn, "coinbase", (7, 7))
    mine.sign(Ledger(conn))
    assert Ledger(conn).missing_ids(*OURS, 6, 8) == []
    assert conn.execute("SELECT count(*) FROM holes WHERE signed_at IS NULL").fetchone() == (1_000,)


def test_signing_reads_no_claims_of_others(conn: Any) -> None:
    """Prevents a gap filler that stands still for seconds, each second, because every range that it signs reads all
    later claims of its product, which anybody may send: 500 ranges and 200,000 claims took 4 s."""
    put(conn, "coinbase", 1, 9_000_000)
    conn.execute(
        "INSERT INTO holes (instrument_id, first_id, last_id, reason, confirmed_at)"
        " SELECT instrument_id, n, n, 'rejected', now() FROM instruments, generate_series(1000, 30000) n;"
        " ANALYZE holes"
    )

    def pages() -> int:
        """Pages of the indexes that were looked at so far."""
        conn.execute("SELECT pg_stat_force_next_flush()")
        (found,) = conn.execute(
            "SELECT idx_blks_hit + idx_blks_read FROM pg_statio_user_tables WHERE relname = 'holes'"
        ).fetchone()
        return int(found)

    before = pages()
    Ledger(conn).sign(*OURS, [(n, n) for n in range(1000, 1100)], "rejected")
    assert pages() - before < 5_000  # 409, and 21,120 with all later claims
    assert conn.execute("SELECT count(*) FROM holes WHERE signed_at IS NOT NULL").fetchone() == (100,)


def test_ours_wait_for_their_claims_and_are_then_forgotten(conn: Any, mine: Explanations) -> None:
    """Prevents findings that are given up before the writer has stored their claim, in one piece or in two, and a list
    of them that grows as long as the program runs."""
    put(conn, "coinbase", 1, 20)
    mine.add(OURS, [(2, 9), (12, 15)], "venue_has_none")
    for stored, claimed, missing in (
        ((), (), [(2, 19)]),
        ((), [(12, 15)], [(2, 11), (16, 19)]),
        ((5,), (), [(2, 4), (6, 11), (16, 19)]),  # it was there after all, so the claim comes in two pieces
        ((), [(2, 9)], [(10, 11), (16, 19)]),
    ):
        put(conn, "coinbase", *stored)
        claim(conn, "coinbase", *claimed)
        mine.sign(Ledger(conn))
        assert Ledger(conn).missing_ids(*OURS, 1, 20) == missing
    claim(conn, "coinbase", (3, 4), reason="rejected")
    asked = conn.execute("SELECT count(*) FROM holes WHERE signed_at IS NULL").fetchone()
    assert asked == (1,), "nothing of ours"
    assert mine._mine == {}
