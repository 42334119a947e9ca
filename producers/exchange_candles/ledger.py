"""Read the state of the back-fill from the database. Only the writer changes it, together with the candles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.times import from_us
from pipeline.database import query
from pipeline.database.connection import Connection
from schemas.records import Quorum

Interval = tuple[int, int]  # µs, end exclusive

_COVERED = """
    coalesce((SELECT range_agg(covered) FROM exchange_candle_state s JOIN instruments i USING (instrument_id)
              WHERE i.venue = %(venue)s AND i.product_id = %(product)s AND s.granularity_s = %(granularity_s)s), '{}')
"""


@dataclass(frozen=True)
class Missing:
    """Candles without a consensus, because the quorum is not met."""

    candles: int
    required: int
    missing: list[str]  # exchanges lacking a candle in the interval
    left_out: list[str]  # exchanges far from the others


def open_spans(
    conn: Connection, venue: str, product_id: str, granularity_s: int, from_: int, to: int
) -> list[Interval]:
    """Return the intervals of `[from, to)` not yet covered for this exchange, ascending."""
    if from_ >= to:
        return []
    return conn.execute(
        "SELECT (extract(epoch FROM lower(gap)) * 1000000)::bigint,"  # noqa: S608  only constants are put together
        " (extract(epoch FROM upper(gap)) * 1000000)::bigint"
        f" FROM unnest(tstzmultirange(tstzrange(%(from)s, %(to)s)) - {_COVERED}) AS gap",
        _values(venue, product_id, granularity_s) | {"from": from_us(from_), "to": from_us(to)},
    ).fetchall()


def is_stored(conn: Connection, venue: str, product_id: str, granularity_s: int, spans: Sequence[Interval]) -> bool:
    """Whether the state covers what was published."""
    found = query.scalar(
        conn,
        f"SELECT coalesce(range_agg(tstzrange(a, b)), '{{}}') <@ {_COVERED}"  # noqa: S608
        " FROM unnest(%(a)s::timestamptz[], %(b)s::timestamptz[]) AS t (a, b)",
        _values(venue, product_id, granularity_s)
        | {"a": [from_us(a) for a, _ in spans], "b": [from_us(b) for _, b in spans]},
    )
    return bool(found)


def known_quorum(conn: Connection, product_id: str, granularity_s: int) -> Quorum | None:
    """Return the quorum that the writer uses."""
    row = conn.execute(
        "SELECT exchanges, required, (extract(epoch FROM as_of) * 1000000)::bigint FROM consensus_quorum"
        " WHERE product_id = %s AND granularity_s = %s",
        (product_id, granularity_s),
    ).fetchone()
    return Quorum(*row) if row else None


def same_quorum(one: Quorum, other: Quorum) -> bool:
    """Return whether two quorums are the same, apart from the time of the request."""
    return (sorted(one.exchanges), one.required) == (sorted(other.exchanges), other.required)


def quorum_holds(conn: Connection, product_id: str, granularity_s: int, quorum: Quorum) -> bool:
    """Return whether the writer uses this quorum, or one that takes precedence."""
    known = known_quorum(conn, product_id, granularity_s)
    if known is None:
        return False
    later = known.as_of_us >= quorum.as_of_us or len(quorum.exchanges) == 1 < len(known.exchanges)
    return later or same_quorum(known, quorum)


def without_consensus(conn: Connection, product_id: str, granularity_s: int, from_: int, to: int) -> Missing | None:
    """Return the candles of `[from, to)` without a consensus; None if there are none."""
    found = query.row(
        conn,
        Missing,
        """
        WITH short AS MATERIALIZED (
            SELECT required, missing, left_out FROM consensus_missing
            WHERE product_id = %s AND granularity_s = %s AND bucket >= %s AND bucket < %s
        )
        SELECT count(*) AS candles, coalesce(max(required), 0) AS required,
               ARRAY(SELECT DISTINCT name FROM short, unnest(missing) AS name ORDER BY name) AS missing,
               ARRAY(SELECT DISTINCT name FROM short, unnest(left_out) AS name ORDER BY name) AS left_out
        FROM short
        """,
        (product_id, granularity_s, from_us(from_), from_us(to)),
    )
    return found if found and found.candles else None


def _values(venue: str, product_id: str, granularity_s: int) -> dict[str, Any]:
    return {"venue": venue, "product": product_id, "granularity_s": granularity_s}
