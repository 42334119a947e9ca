"""Complete means up to now: what a venue is known to have shows as missing when it is not stored, whatever lost it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from consumers.gap_filler.explanations import Explanations
from consumers.gap_filler.heads import WRITE_EVERY_S
from consumers.gap_filler.product_head import SETTLE_S, ProductHead
from consumers.trades import Trades
from pipeline.database.ledger import Ledger
from pipeline.verify import verify
from schemas import encode
from tests.heads_help import Deaf, claim, head, put
from tests.messages import received, store, trades_record
from venues.adapter import Proof


def test_a_silent_stop_shows_at_the_head(conn: Any) -> None:
    """Prevents "100 %" while nothing is stored: the venue has ten more than we do."""
    put(conn, range(1, 91))
    Ledger(conn).write_heads([head(90)])
    assert claim(conn) == (90, 0, 0, 1.0)
    Ledger(conn).write_heads([head(100, seen_s=11)])
    assert claim(conn) == (90, 10, 0, 0.9)
    assert conn.execute("SELECT first_id, last_id FROM trade_gaps").fetchall() == [(91, 100)]


def test_what_is_still_on_its_way_is_not_missing(conn: Any) -> None:
    """Prevents a false alarm with every frame."""
    put(conn, range(1, 91))
    Ledger(conn).write_heads([head(100, settled=90, seen_s=1)])
    assert claim(conn) == (90, 0, 0, 1.0)


def test_without_a_witness_nothing_is_claimed(conn: Any) -> None:
    """Prevents a claim about now by what was known a minute ago, and by nobody at all."""
    put(conn, range(1, 91))
    assert claim(conn) == (90, None, 0, None)
    Ledger(conn).write_heads([head(90, checked_s=61)])
    assert claim(conn) == (90, None, 0, None)
    put(conn, range(95, 96))
    assert claim(conn) == (91, 4, 0, None)  # what is known to be missing is said all the same


def test_a_live_product_of_which_nothing_is_stored_is_listed(conn: Any) -> None:
    """Prevents silence about a product whose topic refused the very first message."""
    Ledger(conn).write_heads([head(50, seen_s=20)])
    assert claim(conn) == (0, 50, 0, 0.0)


def test_time_that_the_ledger_waited_for_a_lock_is_not_left_out(
    conn: Any, filler: Deaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a confirmation that is a minute old and is written down as if it were new, because an administrator held
    a lock while the gap filler was looking."""
    put(conn, range(1, 91))
    ledger = Ledger(conn)
    filler(ledger, 0, (1, 90))
    filler(ledger, SETTLE_S + 1)
    assert claim(conn) == (90, 0, 0, 1.0)
    asked = Ledger.live_products

    def waited(self: Ledger) -> Any:
        filler.clock += 60
        return asked(self)

    monkeypatch.setattr(Ledger, "live_products", waited)
    filler(ledger, WRITE_EVERY_S)
    assert claim(conn) == (90, None, 0, None)


def test_nothing_is_proven_by_what_was_known_before_a_pause(
    conn: Any, filler: Deaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents "100 %" with 900 trades missing after a virtual machine was paused for minutes: its own clocks stood
    still, the database's had gone on."""
    put(conn, range(1, 91))
    ledger = Ledger(conn)
    filler(ledger, 0, (1, 90))
    filler(ledger, SETTLE_S + 1)
    assert claim(conn) == (90, 0, 0, 1.0)
    conn.execute("UPDATE trade_heads SET seen_at = now() - INTERVAL '80 s', checked_at = now() - INTERVAL '80 s'")
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "seconds", lambda _: time.time() + 80 + 2 * SETTLE_S)
        filler(ledger, WRITE_EVERY_S)
    assert claim(conn) == (90, None, 0, None)
    for _ in range(3):  # REST is asked, answers, and its answer is old enough
        filler(ledger, SETTLE_S + 6)
    assert claim(conn) == (90, 0, 0, 1.0)


def test_the_first_trades_of_a_stream_that_were_lost_are_missing(conn: Any, filler: Deaf) -> None:
    """Prevents "missing 0" where the topic took nothing before the stream's thirtieth trade: whether the gap filler
    listens from the beginning or finds what the writer began, and also if the producer has been restarted since."""
    put(conn, range(31, 91))
    ledger = Ledger(conn)
    filler(ledger, 0, (1, 90), (60, 90))
    filler(ledger, SETTLE_S + 1, (60, 90))
    filler(ledger, SETTLE_S + 1)
    assert claim(conn) == (60, 30, 0, 0.666666)
    assert conn.execute("SELECT first_id, last_id FROM trade_gaps").fetchall() == [(1, 30)]
    put(conn, range(1, 31), origin="repair")
    assert claim(conn) == (90, 0, 0, 1.0)


def test_a_live_span_does_not_begin_where_a_head_that_does_not_agree_says(conn: Any, filler: Deaf) -> None:
    """Prevents millions of missing ids by one wrong head, or by a venue that numbers its trades anew."""
    put(conn, range(5_000_031, 5_000_091))
    ledger = Ledger(conn)
    filler(ledger, 0, (5_000_031, 5_000_090))
    filler(ledger, SETTLE_S + 1, (1, 20), (3, 20))
    filler(ledger, SETTLE_S + 1)
    assert conn.execute("SELECT live_from FROM trade_coverage").fetchone() == (5_000_031,)


def test_a_product_that_comes_back_does_not_begin_where_it_once_began(conn: Any) -> None:
    """Prevents the weeks in which a product was not streamed from being missing."""
    put(conn, range(1, 91))
    ledger = Ledger(conn)
    ledger.write_heads([head(90)])
    ledger.retire("kraken", "BTC-USD")
    put(conn, range(1_000, 1_101))
    ledger.write_heads([head(1_100, from_id=990)])
    assert claim(conn)[1] == 10
    assert conn.execute("SELECT asked::text, live_from FROM trade_coverage").fetchone() == ("{[1,91)}", 990)


def test_a_stored_id_above_the_head_makes_no_ids_missing(conn: Any) -> None:
    """Prevents a message with an id from the future from inventing millions of missing trades."""
    put(conn, range(1, 91))
    put(conn, range(5_000_000, 5_000_001))
    Ledger(conn).write_heads([head(90)])
    assert claim(conn)[1] == 0


def test_a_loaded_span_and_the_live_one_are_accounted_for_by_themselves(conn: Any) -> None:
    """Prevents a load of old days from making everything between it and today missing."""
    put(conn, range(1_000, 1_101))
    ledger = Ledger(conn)
    ledger.write_heads([head(1_100, from_id=1_000)])
    ledger.ask_ids("kraken", "BTC-USD", "crypto", Proof.IDS, 10, 19)
    assert claim(conn)[1] == 10
    put(conn, range(10, 20), origin="history")
    assert claim(conn) == (111, 0, 0, 1.0)
    ledger.retire("kraken", "BTC-USD")
    assert conn.execute("SELECT asked::text, live_from FROM trade_coverage").fetchone() == (
        "{[10,20),[1000,1101)}",
        None,
    )
    assert claim(conn) == (111, 0, 0, 1.0)


def test_an_hour_that_was_not_asked_for_is_not_missing(conn: Any) -> None:
    """Prevents one loaded day of 2019 beside live quotes from making 69,000 hours missing."""
    ledger = Ledger(conn)
    hour = 3_600_000_000
    day = 430_000 * hour  # in 2019
    ledger.ask_hours("dukascopy", "EUR-USD", "forex", Proof.HOURS, day, day + 2 * hour)
    (instrument,) = conn.execute("SELECT instrument_id FROM instruments").fetchone()
    conn.execute(
        "INSERT INTO quote_hours SELECT %s, hour, 'confirmed_empty', 0, 'bi5', now(), 0"
        " FROM unnest(ARRAY[to_timestamp(%s), date_trunc('hour', now()) - INTERVAL '3 hours']) AS hour",
        (instrument, day / 1e6),
    )
    found = conn.execute("SELECT missing, share_complete::float, explained_by FROM completeness").fetchone()
    assert found == (1, 0.5, {"confirmed_empty": 2})
    (verdict,) = verify(conn)
    assert [text[:12] for text in verdict.wrong] == ["1 hours betw"]
    ledger.ask_hours("dukascopy", "EUR-USD", "forex", Proof.HOURS, day, day, follow=True)  # and up to now
    missing = conn.execute("SELECT missing FROM completeness").fetchone()[0]
    assert missing > 50_000


def test_a_claim_of_a_message_explains_nothing_until_who_looked_signs_it(conn: Any) -> None:
    """Prevents a message's word from explaining good trades away."""
    put(conn, range(1, 6))
    put(conn, range(10, 12))
    ledger = Ledger(conn)
    ledger.write_heads([head(11)])
    finding = {"first_id": 6, "last_id": 9, "reason": "venue_has_none", "confirmed_at_us": 1_700_000_000_000_000}
    store(Trades(), conn, [received("trades", trades_record([], holes=[finding]))])
    assert claim(conn) == (7, 4, 0, 0.636363)
    told: list[Any] = []
    ours = Explanations(lambda gap, reason: told.append((gap.first_id, gap.last_id, reason)))
    ours.add(("kraken", "BTC-USD"), [(6, 8)], "venue_has_none")
    ours.sign(ledger)
    assert claim(conn)[1] == 4  # more is claimed than we looked at
    ours.add(("kraken", "BTC-USD"), [(9, 9)], "venue_has_none")
    ours.sign(ledger)
    assert claim(conn) == (7, 0, 4, 1.0)
    assert told == [(6, 8, "venue_has_none"), (9, 9, "venue_has_none")]


def test_what_a_load_was_told_to_bring_is_not_too_old(conn: Any) -> None:
    """Prevents a load that ends with "open 0" without the trades it was told to bring, because ids had been recorded as
    too old before it, or are signed as such while it runs."""
    put(conn, range(1, 6))
    put(conn, range(20, 22))
    ledger, key = Ledger(conn), ("kraken", "BTC-USD")
    ledger.write_heads([head(21)])
    finding = {"first_id": 6, "last_id": 19, "reason": "too_old", "confirmed_at_us": 1_700_000_000_000_000}
    store(Trades(), conn, [received("trades", trades_record([], holes=[finding]))])
    ours = Explanations(lambda gap, reason: None)
    ours.add(key, [(6, 19)], "too_old")
    ours.sign(ledger)
    assert claim(conn) == (7, 0, 14, 1.0)  # nobody asked for them
    assert ledger.requested(*key, 1, 21) == []
    ledger.ask_ids(*key, "crypto", Proof.IDS, 1, 8)
    ours.sign(ledger)
    assert claim(conn)[:3] == (7, 14, 0)
    assert ledger.missing_ids(*key, 1, 8) == [(6, 8)]
    assert ledger.requested(*key, 3, 21) == [(3, 8)]
    # The rest is found too old again, without what was asked for.
    store(Trades(), conn, [received("trades", trades_record([], holes=[finding | {"first_id": 9}]))])
    ours.sign(ledger)
    assert claim(conn)[:3] == (7, 3, 11)
    put(conn, range(6, 9))
    assert claim(conn) == (10, 0, 11, 1.0)


def test_a_clock_offset_is_written_once(conn: Any) -> None:
    """A measurement that is written every two seconds until the next one weighs as much as hundreds."""
    known = ProductHead(1, 0, 0.0, "stream")
    known.clock_offset_ms = 250
    assert [known.take_clock_offset(), known.take_clock_offset()] == [250, None]
    Ledger(conn).write_heads([replace(head(100), clock_offset_ms=250), head(101)])
    assert conn.execute("SELECT least_ms, greatest_ms, looks FROM clock_offsets").fetchall() == [(250, 250, 1)]


def test_a_flood_of_odd_heads_costs_neither_memory_nor_log() -> None:
    """Prevents: gigabytes kept of a few kilobytes that a stranger sends packed, and a line of the log for each."""
    with capture_logs() as lines:
        known = Deaf().heads
        record = {"venue": "kraken", "product_id": "A" * 10_000, "asset_class": "crypto", "from_id": 1, "newest_id": 2}
        for data in (encode("head", record | {"clock_offset_us": None, "at_us": 1}), b"no head"):
            for _ in range(1_000):
                known._on_message(data)
    known.close()
    assert not known._reports
    assert len(lines) == 1
