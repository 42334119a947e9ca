"""For which moment a witness of a venue's newest trade vouches, whatever held up what it said; and whom it holds up."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

import schemas
from consumers.gap_filler import heads
from consumers.gap_filler.heads import WRITE_EVERY_S, Heads
from consumers.gap_filler.product_head import SETTLE_S
from pipeline.core.products import ID_JUMP
from pipeline.core.runtime import now_us
from pipeline.database.ledger import Ledger
from tests.heads_help import Deaf, Rest, claim, head, put


def test_a_head_that_was_held_up_says_nothing_of_now(conn: Any, filler: Deaf) -> None:
    """Prevents "100 %" up to now by a head that a producer, dead since, published before the gap filler was frozen or
    cut off from the broker, and that is heard minutes later."""
    put(conn, range(1, 91))
    ledger = Ledger(conn)
    record = {"venue": "kraken", "product_id": "BTC-USD", "asset_class": "crypto", "from_id": 1, "newest_id": 90}
    known, filler.rest.newest = filler.heads, 1  # REST is of no help
    known._on_message(schemas.encode("head", record | {"clock_offset_us": None, "at_us": now_us() - 290_000_000}))
    filler(ledger, 0)
    filler(ledger, SETTLE_S + 1)
    filler(ledger, WRITE_EVERY_S)
    assert claim(conn) == (90, None, 0, None)
    known._on_message(schemas.encode("head", record | {"clock_offset_us": None, "at_us": now_us(), "newest_id": 91}))
    put(conn, range(91, 92))
    filler(ledger, 0)
    filler(ledger, SETTLE_S + 1)
    filler(ledger, WRITE_EVERY_S)
    assert claim(conn) == (91, 0, 0, 1.0)


def test_a_restarted_gap_filler_knows_what_was_known(conn: Any, filler: Deaf) -> None:
    """Prevents "100 %" by an answer of REST that is behind what the stream had shown and nobody stored, because the
    gap filler that had heard of it was killed."""
    put(conn, range(1, 91))
    ledger = Ledger(conn)
    ledger.write_heads([head(100, settled=90)])
    for _ in range(4):  # REST says 90, again and again
        filler(ledger, SETTLE_S + 6)
    assert conn.execute("SELECT newest_id FROM trade_heads").fetchone() == (100,)
    conn.execute(
        "UPDATE trade_heads SET seen_at = seen_at - INTERVAL '61 s', checked_at = checked_at - INTERVAL '61 s'"
    )
    assert claim(conn) == (90, 10, 0, None)


def test_what_is_held_up_on_its_way_to_the_database_does_not_become_younger(
    conn: Any, filler: Deaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a claim about now by a gap filler that was frozen between measuring an age and writing it."""
    put(conn, range(1, 91))
    write = Ledger.write_heads

    def frozen(ledger: Ledger, heads: Any, at_s: float) -> None:
        write(ledger, heads, at_s - 120.0)  # two minutes pass, the database's clock goes on

    monkeypatch.setattr(Ledger, "write_heads", frozen)
    filler(Ledger(conn), 0, (1, 90))
    filler(Ledger(conn), SETTLE_S + 1)
    assert claim(conn) == (90, None, 0, None)


def test_a_venue_that_does_not_answer_holds_up_no_other(conn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents all venues' quiet products from being unknown because the requests to one venue wait, for its answers
    or for the pause that it wants."""
    over = threading.Event()

    class Silent(Rest):
        venue = "coinbase"

        def newest_trade(self, _product: str) -> int:
            over.wait()
            return 0

    known = Heads([cast(Any, Silent()), cast(Any, Rest())], cast(Any, None), [], threading.Event())
    known._open_reader_at = float("inf")
    try:
        for venue, products in (("coinbase", 2 * heads.ASKERS), ("kraken", 1)):
            for number in range(products):
                about = {"venue": venue, "product_id": f"P{number}-USD", "asset_class": "crypto"}
                known._reports.append(({**about, "from_id": 1, "newest_id": 90}, 0.0, 0.0))
        known.poll(Ledger(conn))
        assert known._asking["kraken", "P0-USD"].result(timeout=60)[0] == 90
        assert not any(answer.done() for (venue, _), answer in known._asking.items() if venue == "coinbase")
    finally:
        over.set()
        known.close()


def test_a_message_does_not_ask_for_all_that_a_venue_ever_traded(conn: Any, filler: Deaf) -> None:
    """Prevents ninety million missing ids, and as many requests, by one message that says where a stream began."""
    put(conn, range(90_000_031, 90_000_091))
    ledger = Ledger(conn)
    filler(ledger, 0, (90_000_031, 90_000_090), (0, 90_000_090))
    filler(ledger, SETTLE_S + 1, (1, 90_000_091))
    filler(ledger, SETTLE_S + 1)
    assert conn.execute("SELECT live_from FROM trade_coverage").fetchone() == (90_000_031,)
    filler(ledger, 0, (0, 90_000_090), product="ETH-USD")  # nor where nothing is known yet
    filler(ledger, SETTLE_S + 6)
    assert filler.heads._known["kraken", "ETH-USD"].from_id == 90_000_090 - ID_JUMP
