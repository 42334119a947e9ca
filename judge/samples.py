"""Samples against what the simulator sent: each is stored once and true, or lies in time that is listed as missed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from judge.schedule import SAMPLED
from pipeline.database import query
from pipeline.database.connection import Connection
from simulator.testing import Simulator

Span = tuple[int, int]
_STORED = """
    SELECT (extract(epoch FROM ts) * 1000000)::bigint, bid, ask FROM quotes JOIN instruments USING (instrument_id)
    WHERE venue = %s AND product_id = %s ORDER BY 1
"""
_MISSED = """
    SELECT (extract(epoch FROM from_ts) * 1000000)::bigint, (extract(epoch FROM to_ts) * 1000000)::bigint
    FROM missed_time WHERE venue = %s AND product_id = %s
"""
CLAIMED = """
    SELECT venue, product_id, missing, share_complete FROM completeness
    WHERE venue = ANY(%s) AND (missing IS NOT NULL OR share_complete IS NOT NULL)
"""
# What was sent this shortly before the end may not be stored yet.
YOUNG_NS = 15_000_000_000


def claims(conn: Connection) -> list[str]:
    """Return every claim that no samples are missing, which cannot be known."""
    rows = conn.execute(CLAIMED, (list(SAMPLED),)).fetchall()
    return [f"{venue} {product}: {missing} missing, {share} complete" for venue, product, missing, share in rows]


def stored_products(conn: Connection) -> list[int]:
    """Of how many products live trades are stored, and of how many samples."""
    if query.scalar(conn, "SELECT to_regclass('trade_coverage')") is None:
        return [0, 0]
    trades = query.scalar(conn, "SELECT count(*) FROM trade_coverage WHERE live_from IS NOT NULL AND NOT isempty(ids)")
    samples = query.scalar(
        conn,
        "SELECT count(DISTINCT instrument_id) FROM quote_candle_1h JOIN instruments USING (instrument_id)"
        " WHERE venue = ANY(%s)",
        (list(SAMPLED),),
    )
    return [trades, samples]


def differences(conn: Connection, simulator: Simulator, restored: Sequence[Span]) -> tuple[int, list[str]]:
    """Return how many stored samples were compared, and the differences. `restored`: times (ns) whose rows a restore
    may have removed."""
    compared, wrong = 0, [f"a claim about samples: {text}" for text in claims(conn)]
    # Stored rows are read before what was sent: meanwhile more is sent, and stored.
    kept = {key: conn.execute(_STORED, key).fetchall() for key in simulator.sent()}
    for (venue, product), sent_ns in sorted(simulator.sent().items()):
        name = f"{venue} {product}"
        tape = simulator.tape(venue, product)
        prices, unit = {at // 1000: tape.bid_ask(at) for at in sent_ns}, 10**tape.product.price_decimals
        rows = kept.get((venue, product), [])
        missed = conn.execute(_MISSED, (venue, product)).fetchall()
        compared += len(rows)
        stored = [at_us for at_us, *_ in rows]
        if doubled := [one for one, other in pairwise(stored) if one == other]:
            wrong.append(f"{name}: {len(doubled)} samples stored twice, first of {doubled[0]}")
        false = [at for at, bid, ask in rows if prices.get(at) != (bid * unit, ask * unit)]
        if false:
            wrong.append(f"{name}: {len(false)} stored samples were not sent like that, first of {false[0]}")
        lost = _lost(sent_ns, prices, set(stored), [*missed, *((a // 1000, b // 1000) for a, b in restored)])
        if lost:
            wrong.append(f"{name}: {len(lost)} samples neither stored nor in missed time, first of {lost[0]}")
    return compared, wrong


def _lost(
    sent_ns: Sequence[int], prices: dict[int, tuple[int, int]], stored: set[int], missed: Sequence[Span]
) -> list[int]:
    """What was sent after the first stored one, differs from what was sent before, and is nowhere."""
    first, until = min(stored, default=0), (max(sent_ns) - YOUNG_NS) // 1000
    lost, before = [], None
    for at in sorted(prices):
        changed, before = prices[at] != before, prices[at]
        listed = any(begin <= at <= end for begin, end in missed)
        if first < at < until and changed and at not in stored and not listed:
            lost.append(at)
    return lost
