"""Which looks make an hour of quotes empty. No broker here."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from consumers.quote_hours import Hours
from tests.messages import T0_US, hour_bytes, received, store

HOUR = 3_600_000_000


def put(conn: Any, hour: bytes) -> str:
    """Store an hour; the state that the ledger has then."""
    assert store(Hours(), conn, [received("quotes", hour)]) == (0, [])
    (state,) = conn.execute("SELECT state::text FROM quote_hours").fetchone()
    return str(state)


def test_a_look_at_a_young_hour_is_none(conn: Any) -> None:
    """Prevents an hour that is empty for ever by one look: the first was made before the vendor had published it, and
    the only later one met a passing 404."""
    put(conn, hour_bytes([], [], final=False, fetched_at_us=T0_US + HOUR + 300_000_000))
    conn.execute(
        "INSERT INTO quote_looks (instrument_id, hour, first_at, last_at)"
        " SELECT instrument_id, hour, hour + INTERVAL '65 min', hour + INTERVAL '25 hours 1 min' FROM quote_hours"
    )
    assert put(conn, hour_bytes([], [], fetched_at_us=T0_US + 25 * HOUR + 60_000_000)) == "seen_empty"
    (first_that_counts,) = conn.execute("SELECT fetched_at - hour FROM quote_hours").fetchone()
    assert first_that_counts == timedelta(hours=25, minutes=1)
    conn.execute("UPDATE quote_looks SET last_at = hour + INTERVAL '25 hours 11 min'")
    assert put(conn, hour_bytes([], [], fetched_at_us=T0_US + 25 * HOUR + 660_000_000)) == "confirmed_empty"
