"""The instruments of charts and streams."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Instrument:
    """An instrument. `kind`: what its candles are made of: trades, tickers (live bid) or quotes (hours of bid).

    `proof`: how that kind is proven complete, a value of `venues.adapter.Proof`; None if it cannot be.
    """

    instrument_id: int
    venue: str
    product_id: str
    asset_class: str
    kind: str
    proof: str | None


KNOWN = """
SELECT i.instrument_id, i.venue, i.product_id, i.asset_class, k.kind, proof_of(k.kind, i.proof) AS proof
FROM instruments i LEFT JOIN trade_coverage c USING (instrument_id)
CROSS JOIN LATERAL (
    SELECT CASE WHEN NOT isempty(c.ids) THEN 'trades'
            WHEN EXISTS (SELECT FROM quote_hours h WHERE h.instrument_id = i.instrument_id) THEN 'quotes'
            WHEN EXISTS (SELECT FROM quote_candle_1h q WHERE q.instrument_id = i.instrument_id) THEN 'tickers'
            WHEN c.live_from IS NOT NULL THEN 'trades'
       END AS kind
) k
"""
"""Query of all instruments, with `kind` NULL where nothing is stored. A WHERE clause may be appended."""
