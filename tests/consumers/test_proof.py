"""What is called complete, by how it can be shown: a claim rests on what is known of the venue, never on a message."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from consumers.quote_hours import Hours
from consumers.tickers import Tickers
from consumers.trades import Trades
from pipeline.core.times import to_us
from pipeline.database.instruments import instrument
from pipeline.database.ledger import Ledger
from pipeline.database.sql import migrations
from pipeline.ops.claim import complete_text
from pipeline.verify import verify
from tests.messages import T0_US, hour_bytes, received, store, ticker_record, trade, trades_record
from venues.adapter import Proof
from venues.registry import proof_of

HOUR_US = 3_600_000_000


def put(conn: Any, venue: str, ids: list[int], product: str = "BTC-USD") -> int:
    """Store trades of a venue; the instrument's id."""
    topic = f"persistent://t/trades/{venue}.{product.lower()}"
    record = trades_record([trade(i) for i in ids], product, venue, origin="history")
    assert store(Trades(), conn, [received("trades", record, topic)])[1] == []
    (found,) = conn.execute("SELECT instrument_id FROM instruments WHERE venue = %s", (venue,)).fetchone()
    return int(found)


def claims(conn: Any) -> dict[tuple[str, str], tuple[Any, ...]]:
    """(venue, kind) -> proof, missing, share, and in words."""
    rows = conn.execute(
        "SELECT venue, kind, proof, missing, share_complete, explained_by, live, proven_until, missed FROM completeness"
    ).fetchall()
    return {
        (venue, kind): (
            proof,
            missing,
            share,
            complete_text(proof, share and float(share), reasons, live, until, missed),
        )
        for venue, kind, proof, missing, share, reasons, live, until, missed in rows
    }


def test_the_kinds_are_those_of_the_database(conn: Any) -> None:
    """Prevents a kind of proof that one side knows and the other refuses."""
    for number, proof in enumerate(Proof):
        instrument(conn, "kraken", f"P{number}-USD", "crypto", proof)
    with pytest.raises(psycopg.errors.CheckViolation):
        instrument(conn, "kraken", "ODD-USD", "crypto", "good looks")


def test_a_writer_stores_what_is_known_of_the_venue(conn: Any) -> None:
    """Prevents trades of a made-up venue from being called complete, and ids of no known rule from being missed."""
    put(conn, "kraken", [1, 2, 3])
    put(conn, "nowhere", [1, 2, 3])
    store(Hours(), conn, [received("quotes", hour_bytes([1], [114543]))])
    assert conn.execute("SELECT venue, proof FROM instruments ORDER BY 1").fetchall() == [
        ("dukascopy", "hours"),
        ("kraken", "contiguous ids"),
        ("nowhere", None),
    ]
    put(conn, "nowhere", [1_000])
    assert claims(conn) == {
        ("dukascopy", "quotes"): ("hours", 0, 1, "100 %"),
        ("kraken", "trades"): ("contiguous ids", 0, 1, "100 %"),
        ("nowhere", "trades"): (None, None, None, "not proven"),
    }
    assert Ledger(conn).trade_gaps() == []
    assert {v.venue: v.proof for v in verify(conn)}["nowhere"] is None


def test_a_venue_s_proof_does_not_prove_other_data(conn: Any) -> None:
    """Prevents trades in the name of a vendor of quotes from being complete, and hours in that of an exchange."""
    put(conn, "vendor", [1, 2, 3])
    hour = hour_bytes([1], [114543], venue="exchange", product_id="BTC-USD", asset_class="crypto")
    store(Hours(), conn, [received("quotes", hour, "persistent://t/quotes/exchange.btc-usd")])
    # Stored before the programs knew these venues; the writers refuse it otherwise.
    for venue, name, proof in (("vendor", "dukascopy", Proof.HOURS), ("exchange", "kraken", Proof.IDS)):
        conn.execute("UPDATE instruments SET venue = %s, proof = %s WHERE venue = %s", (name, proof, venue))
    assert claims(conn) == {
        ("dukascopy", "trades"): (None, None, None, "not proven"),
        ("kraken", "quotes"): (None, None, None, "not proven"),
    }


def test_what_is_learnt_later_is_noted_and_not_forgotten(conn: Any) -> None:
    """Prevents an instrument that candles made years ago from staying unproven when its venue gets an adapter."""
    one = instrument(conn, "binance", "BTC-USDT", "crypto", None)
    assert instrument(conn, "binance", "BTC-USDT", "crypto", Proof.IDS) == one
    put(conn, "binance", [1, 2, 5], "BTC-USDT")  # by a program that does not know the venue
    assert claims(conn) == {("binance", "trades"): ("contiguous ids", 2, Decimal("0.6"), "60.0000 %")}


def test_a_sampled_venue_is_never_complete_and_its_missed_time_is_listed(conn: Any) -> None:
    """Prevents "100 %" of what the venue leaves out as it likes, trades and prices alike."""
    one = instrument(conn, "oanda", "EUR-USD", "forex", Proof.SAMPLED)[0]
    put(conn, "oanda", [1, 2, 9], "EUR-USD")
    conn.execute(
        "INSERT INTO holes (instrument_id, from_ts, to_ts, reason, confirmed_at) SELECT %s, at, at + INTERVAL '20 min',"
        " 'not_listening', now() FROM unnest(ARRAY[TIMESTAMPTZ '2026-11-01', '2026-11-01 00:10', '2026-11-02']) at",
        (one,),
    )
    assert claims(conn) == {("oanda", "trades"): ("sampled", None, None, "sampled, 50 min missed")}
    assert conn.execute("SELECT count(*) FROM missed_time WHERE venue = 'oanda'").fetchone() == (3,)
    (verdict,) = verify(conn)
    assert (verdict.wrong, verdict.proof, verdict.explained) == ([], "sampled", 2)


def test_tickers_are_samples_of_any_venue(conn: Any) -> None:
    """Prevents the proof of a venue's trades from being taken for one of its tickers."""
    store(Tickers(), conn, [received("ticker", ticker_record())])
    assert claims(conn) == {("kraken", "tickers"): ("sampled", None, None, "sampled")}


def test_a_venue_that_is_proven_by_time_says_so(conn: Any) -> None:
    """Prevents ids that other products share from being missed, and time that nobody compared from being complete."""
    one = instrument(conn, "bitstamp", "BTC-USD", "crypto", Proof.WINDOWS)[0]
    put(conn, "bitstamp", [1, 7, 1_000])
    name = ("bitstamp", "trades")
    assert claims(conn)[name] == ("time windows", None, None, "-")  # nobody has compared anything
    conn.execute(
        "INSERT INTO trade_windows VALUES (%s, '{[2026-11-01 00:00Z,2026-11-01 01:00Z)}', NULL,"
        " '{[2026-11-01 00:00Z,2026-11-01 00:15Z),[2026-11-01 00:30Z,2026-11-01 01:00Z)}')",
        (one,),
    )
    assert claims(conn)[name] == ("time windows", 900, Decimal("0.75"), "75.0000 % by time windows")
    assert Ledger(conn).trade_gaps() == []
    assert [text for v in verify(conn) for text in v.wrong] == [
        "trades between 2026-11-01 00:15:00+00 and 2026-11-01 00:30:00+00 are neither proven nor explained"
    ]
    conn.execute(
        "INSERT INTO holes (instrument_id, from_ts, to_ts, reason, confirmed_at)"
        " VALUES (%s, '2026-11-01 00:15Z', '2026-11-01 00:30Z', 'too_old', now())",
        (one,),
    )
    assert claims(conn)[name][1] == 900  # a claim that nobody signed
    conn.execute("UPDATE holes SET signed_at = now()")
    assert claims(conn)[name] == ("time windows", 0, 1, "100 % by time windows, 900 too old")
    assert [v.wrong for v in verify(conn)] == [[]]


@pytest.mark.parametrize("proof", [Proof.WINDOWS, Proof.SEQUENCE])
def test_live_trades_that_are_proven_by_time_are_known_up_to_the_last_comparison(conn: Any, proof: Proof) -> None:
    """Prevents a claim about now by what was compared a minute ago, and a lost window in between."""
    one = instrument(conn, "elsewhere", "BTC-USD", "crypto", proof)[0]
    put(conn, "elsewhere", [1, 7])
    conn.execute(
        "INSERT INTO trade_windows VALUES (%s, DEFAULT, now() - INTERVAL '1 hour',"
        " tstzmultirange(tstzrange(now() - INTERVAL '1 hour', now() - INTERVAL '5 s')), now())",
        (one,),
    )
    (found,) = claims(conn).values()
    assert found[:3] == (proof, 0, 1)
    conn.execute(
        "UPDATE trade_windows SET proven ="
        " proven - tstzmultirange(tstzrange(now() - INTERVAL '30 min', now() - INTERVAL '29 min'))"
    )
    (found,) = claims(conn).values()
    assert (found[1], round(float(found[2]), 3)) == (60, 0.983)
    conn.execute(  # by the clock of a venue that is an hour ahead
        "UPDATE trade_windows SET checked_at = now() - INTERVAL '2 min',"
        " proven = proven + tstzmultirange(tstzrange(now() - INTERVAL '1 min', now() + INTERVAL '1 hour'))"
    )
    (found,) = claims(conn).values()
    assert (found[1], found[2]) == (60, None)
    assert found[3].startswith("not known since ")


def test_hours_that_an_older_rule_closed_are_missing(conn: Any) -> None:
    """Prevents "100 %" of a share outside the US whose trading hours nobody asked for: an older version took them for
    closed, by New York's hours."""
    at = datetime(2026, 7, 7, 8, tzinfo=UTC)  # Tuesday, 4 o'clock in New York
    weekend = datetime(2026, 7, 11, 8, tzinfo=UTC)
    ledger = Ledger(conn)
    kept = {}
    for product, asset_class in (("SAPDE-EUR", "stock"), ("AAPLUS-USD", "stock"), ("EUR-USD", "forex")):
        for hour in (at, weekend):
            hour_us = to_us(hour)
            ledger.ask_hours("dukascopy", product, asset_class, Proof.HOURS, hour_us, hour_us + HOUR_US)
            conn.execute(
                "INSERT INTO quote_hours (instrument_id, hour, state, ticks, feed, fetched_at, checksum)"
                " SELECT instrument_id, %s, 'closed', 0, 'calendar', now(), 0 FROM instruments WHERE product_id = %s",
                (hour, product),
            )
        kept[product] = 0
    (text,) = (text for number, _, text in migrations() if number == 10)
    conn.execute(text)
    found = dict(conn.execute("SELECT product_id, missing FROM completeness").fetchall())
    assert found == kept | {"SAPDE-EUR": 1}
    assert conn.execute("SELECT count(*) FROM quote_hours").fetchone() == (5,)


def test_an_older_database_is_told_what_its_venues_are(conn: Any) -> None:
    """Prevents everything that is stored from being unproven after an upgrade."""
    put(conn, "kraken", [1, 2, 3])
    put(conn, "nowhere", [1])
    store(Hours(), conn, [received("quotes", hour_bytes([1], [114543], hour_start_us=T0_US + HOUR_US))])
    (text,) = (text for number, _, text in migrations() if number == 5)
    with conn.transaction():
        conn.execute("DROP TABLE trade_windows CASCADE; ALTER TABLE instruments DROP COLUMN proof CASCADE")
        conn.execute(text)
    rows = conn.execute("SELECT venue, proof FROM instruments").fetchall()
    assert dict(rows) == {venue: proof_of(venue) for venue in ("kraken", "nowhere", "dukascopy")}
