"""The ledger `trade_windows` of trades that are proven by time, for the code that compares streams with venues."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pipeline.core.times import from_us
from pipeline.database import query
from pipeline.database.connection import Connection

Span = tuple[int, int]  # [from, to), venue time in µs


@dataclass(frozen=True)
class LiveWindow:
    """A product whose live stream is compared with its venue. Times are venue times in µs.

    `live_us`: start of the time accounted for; `open_us`: the earliest moment that is not proven and can still be
    requested; `newest_us`: time of the newest stored trade.
    """

    venue: str
    product_id: str
    instrument_id: int
    live_us: int
    open_us: int
    newest_us: int | None


def begin(conn: Connection, venues: Sequence[str]) -> None:
    """Start the live interval of each product of these venues at its first streamed trade, once that is stored."""
    conn.execute(
        """
        INSERT INTO trade_windows AS w (instrument_id, live_from)
        SELECT c.instrument_id,
               (SELECT t.ts FROM trades t WHERE t.instrument_id = c.instrument_id AND t.trade_id = c.live_from LIMIT 1)
        FROM trade_coverage c JOIN instruments i USING (instrument_id)
        LEFT JOIN trade_windows known USING (instrument_id)
        WHERE c.live_from IS NOT NULL AND known.live_from IS NULL AND i.venue = ANY(%s)
        ON CONFLICT (instrument_id) DO UPDATE SET live_from = excluded.live_from
        """,
        (list(venues),),
    )


def live(conn: Connection, venues: Sequence[str], since_us: int) -> list[LiveWindow]:
    """Return the live products of these venues. `since_us`: how far back the venue can be asked, by our clock, so it
    only decides what is requested, never what is proven."""
    return query.rows(
        conn,
        LiveWindow,
        """
        SELECT i.venue, i.product_id, w.instrument_id,
               (extract(epoch FROM w.live_from) * 1000000)::bigint AS live_us,
               (extract(epoch FROM lower(tstzmultirange(tstzrange(since.ts, NULL)) - w.proven)) * 1000000)::bigint
                   AS open_us,
               (extract(epoch FROM c.last_ts) * 1000000)::bigint AS newest_us
        FROM trade_windows w JOIN instruments i USING (instrument_id) JOIN trade_coverage c USING (instrument_id)
        CROSS JOIN LATERAL (SELECT greatest(w.live_from, %(since)s) AS ts) since
        WHERE w.live_from IS NOT NULL AND i.venue = ANY(%(venues)s)
        ORDER BY i.venue, i.product_id
        """,
        {"venues": list(venues), "since": from_us(since_us)},
    )


def unknown_ids(conn: Connection, venue: str, product_id: str, ids: Collection[int]) -> set[int]:
    """Return those of `ids` that are not stored.

    Computed as one difference of multiranges: id by id, every comparison would read the whole coverage again. Measured
    with 200,000 stored ranges: 16 ms for 1,000 ids instead of 4.6 s, 0.16 s for 20,000 instead of 99 s.
    """
    return set(
        query.scalars(
            conn,
            """
            SELECT generate_series(lower(r), upper(r) - 1)
            FROM unnest((SELECT range_agg(int8range(id, id, '[]')) FROM unnest(%s::bigint[]) AS id)
                        - coalesce((SELECT c.ids FROM trade_coverage c JOIN instruments i USING (instrument_id)
                                    WHERE i.venue = %s AND i.product_id = %s), '{}')) AS r
            """,
            (list(ids), venue, product_id),
        )
    )


def first_after(conn: Connection, instrument_id: int, at_us: int) -> int | None:
    """Return the time of the first stored trade at or after `at_us`; None if there is none."""
    row = conn.execute(
        "SELECT (extract(epoch FROM ts) * 1000000)::bigint FROM trades WHERE instrument_id = %s AND ts >= %s"
        " ORDER BY ts LIMIT 1",
        (instrument_id, from_us(at_us)),
    ).fetchone()
    return None if row is None else int(row[0])


def prove(conn: Connection, instrument_id: int, covered: Span | None, lost: Sequence[Span], age_s: float = 0.0) -> None:
    """Record the result of a comparison: `covered` is proven, `lost` is not, even if it was proven before.

    `checked_at` becomes `age_s` ago, by the database's clock, if the proof ends later than before, and NULL if it ends
    earlier.
    """
    first, end = covered or (0, 0)
    conn.execute(
        """
        UPDATE trade_windows w SET proven = n.proven,
            checked_at = CASE WHEN upper(n.proven) > coalesce(upper(w.proven), '-infinity')
                                   THEN now() - %(age_s)s * INTERVAL '1 second'
                              WHEN upper(n.proven) = upper(w.proven) THEN w.checked_at END
        FROM (SELECT proven + tstzmultirange(tstzrange(%(from)s, %(to)s))
                  - (SELECT coalesce(range_agg(tstzrange(a, b)), '{}')
                     FROM unnest(%(lost_from)s::timestamptz[], %(lost_to)s::timestamptz[]) AS s(a, b)) AS proven
              FROM trade_windows WHERE instrument_id = %(instrument)s FOR UPDATE) n
        WHERE w.instrument_id = %(instrument)s
        """,
        {
            "instrument": instrument_id,
            "age_s": age_s,
            "from": from_us(first),
            "to": from_us(end),
            "lost_from": [from_us(first) for first, _ in lost],
            "lost_to": [from_us(end) for _, end in lost],
        },
    )


def retire(conn: Connection, instrument_id: int) -> bool:
    """End the live interval of a product of which nothing was streamed within an hour; what was accounted for up to now
    stays requested. Returns whether it was ended."""
    with conn.transaction():
        ended = conn.execute(
            """
            UPDATE trade_windows w SET asked = a.times, live_from = NULL FROM trade_time_asked a
            WHERE w.instrument_id = %(instrument)s AND a.instrument_id = w.instrument_id AND w.live_from IS NOT NULL
              AND NOT EXISTS (SELECT FROM trades t WHERE t.instrument_id = w.instrument_id
                              AND t.ts > now() - INTERVAL '1 hour' AND t.origin IN ('live', 'snapshot'))
            """,
            {"instrument": instrument_id},
        ).rowcount
        if ended:  # the next streamed trade begins a new one
            conn.execute("UPDATE trade_coverage SET live_from = NULL WHERE instrument_id = %s", (instrument_id,))
    return bool(ended)
