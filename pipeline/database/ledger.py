"""The ledger: what is requested, stored, missing and explained.

Only the writers record stored rows and claims, together with the rows. This module writes what no message can know:
what users requested, what the venues are known to have, and signatures of claims that were verified at the venue.
"""

from __future__ import annotations

import ctypes
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.core import events
from pipeline.core.log import get_logger
from pipeline.core.times import from_us, to_us
from pipeline.database import query
from pipeline.database.connection import Connection
from pipeline.database.instruments import instrument_id
from pipeline.database.sql import statement


@dataclass(frozen=True)
class IdGap:
    """Trade ids `first_id..last_id` (inclusive) that are neither stored nor explained.

    `before_us`, `after_us`: venue times of the stored trades `first_id - 1` and `last_id + 1`, where they are stored.
    """

    venue: str
    product_id: str
    first_id: int
    last_id: int
    before_us: int | None
    after_us: int | None

    @property
    def missing(self) -> int:
        """Number of ids."""
        return self.last_id - self.first_id + 1


@dataclass(frozen=True)
class Head:
    """The newest trade that a venue is known to have. `from_id`: where its live stream began, as far as known.

    `seen_age_s`: seconds since the witness ("stream" or "rest") first saw `newest_id`; `settled_id`: the newest id seen
    long enough ago to be stored by now; `checked_age_s`: seconds since that was confirmed; `proof`: the venue's, as in
    `instruments.proof`; `clock_offset_ms`: the venue's clock minus ours, None if not measured since the last time.
    """

    venue: str
    product_id: str
    asset_class: str
    from_id: int
    newest_id: int
    settled_id: int
    seen_age_s: float
    checked_age_s: float
    witness: str
    proof: str | None
    clock_offset_ms: int | None = None


@dataclass(frozen=True)
class Hour:
    """A row of `quote_hours`. `checksum`: over times, bids and asks; `revision`: how often its quotes were replaced."""

    hour_us: int
    state: str  # present, partial, seen_empty, confirmed_empty, closed
    ticks: int
    feed: str
    fetched_at_us: int
    checksum: int
    revision: int

    @property
    def accounted(self) -> bool:
        """Whether the hour needs no further request."""
        return self.state in ("present", "confirmed_empty", "closed")


class Ledger:
    """Access to the ledger on one autocommit connection. All methods raise `psycopg.Error`. As thread-safe as the
    connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def trade_gaps(self, venue: str | None = None, product_id: str | None = None) -> list[IdGap]:
        """Return the unexplained gaps, newest first."""
        return query.rows(
            self._conn,
            IdGap,
            """
            SELECT g.venue, g.product_id, g.first_id, g.last_id,
                   (SELECT (extract(epoch FROM ts) * 1000000)::bigint FROM trades t
                    WHERE t.instrument_id = g.instrument_id AND t.trade_id = g.first_id - 1 LIMIT 1) AS before_us,
                   (SELECT (extract(epoch FROM ts) * 1000000)::bigint FROM trades t
                    WHERE t.instrument_id = g.instrument_id AND t.trade_id = g.last_id + 1 LIMIT 1) AS after_us
            FROM trade_gaps g
            WHERE (%(venue)s::text IS NULL OR g.venue = %(venue)s)
              AND (%(product)s::text IS NULL OR g.product_id = %(product)s)
            ORDER BY after_us DESC NULLS LAST, g.last_id DESC
            """,
            {"venue": venue, "product": product_id},
        )

    def missing_ids(self, venue: str, product_id: str, first_id: int, last_id: int) -> list[tuple[int, int]]:
        """Return the ranges (inclusive) in `first_id..last_id` that a load has to fetch, ascending: neither stored nor
        explained, where `too_old` explains nothing."""
        values = {"first": first_id, "last": last_id, "venue": venue, "product": product_id}
        return self._conn.execute(statement("trades_missing"), values).fetchall()

    def requested(self, venue: str, product_id: str, first_id: int, last_id: int) -> list[tuple[int, int]]:
        """Return the ranges (inclusive) in `first_id..last_id` that loads requested, ascending."""
        return self._conn.execute(
            "SELECT lower(span), upper(span) - 1 FROM trade_coverage JOIN instruments i USING (instrument_id),"
            " unnest(asked * int8multirange(int8range(%s, %s, '[]'))) AS span"
            " WHERE i.venue = %s AND i.product_id = %s ORDER BY 1",
            (first_id, last_id, venue, product_id),
        ).fetchall()

    def trade_before(self, venue: str, product_id: str, trade_id: int) -> tuple[int, int] | None:
        """Return (id, venue time in µs) of the nearest stored trade with a smaller id, or None."""
        return self._conn.execute(
            "SELECT trade_id, (extract(epoch FROM ts) * 1000000)::bigint FROM trades WHERE instrument_id ="
            " (SELECT instrument_id FROM instruments WHERE venue = %s AND product_id = %s)"
            " AND trade_id < %s ORDER BY trade_id DESC LIMIT 1",
            (venue, product_id, trade_id),
        ).fetchone()

    def quote_hours(self, venue: str, product_id: str, from_us_: int, to_us_: int) -> dict[int, Hour]:
        """Return the recorded hours of `[from, to)`, by their start in µs."""
        found = query.rows(
            self._conn,
            Hour,
            """
            SELECT (extract(epoch FROM hour) * 1000000)::bigint AS hour_us, state::text, ticks, feed,
                   (extract(epoch FROM fetched_at) * 1000000)::bigint AS fetched_at_us, checksum, revision
            FROM quote_hours JOIN instruments i USING (instrument_id)
            WHERE i.venue = %s AND i.product_id = %s AND hour >= %s AND hour < %s
            """,
            (venue, product_id, from_us(from_us_), from_us(to_us_)),
        )
        return {hour.hour_us: hour for hour in found}

    def newest_quote_hours(self, venue: str, product_id: str, before_us: int, count: int) -> list[int]:
        """Return the newest hours before this time that have quotes, newest first, by their start in µs."""
        hours = query.scalars(
            self._conn,
            """
            SELECT hour FROM quote_hours JOIN instruments i USING (instrument_id)
            WHERE i.venue = %s AND i.product_id = %s AND hour < %s AND state = 'present' AND ticks > 0
            ORDER BY hour DESC LIMIT %s
            """,
            (venue, product_id, from_us(before_us), count),
        )
        return [to_us(hour) for hour in hours]

    # -- requests -----------------------------------------------------------------------------------------------------

    def ask_ids(
        self, venue: str, product_id: str, asset_class: str, proof: str | None, first_id: int, last_id: int
    ) -> None:
        """Record a request for the trades `first_id..last_id`: from now on none of them is too old."""
        number = instrument_id(self._conn, venue, product_id, asset_class, proof)
        self._conn.execute(statement("trades_ask"), {"first": first_id, "last": last_id, "instrument": number})

    def ask_hours(
        self,
        venue: str,
        product_id: str,
        asset_class: str,
        proof: str | None,
        from_us_: int,
        to_us_: int,
        *,
        follow: bool = False,
    ) -> None:
        """Record a request for the hours of `[from, to)` (µs); with `follow` also for all later ones."""
        self._conn.execute(
            """
            INSERT INTO quote_requests AS r (instrument_id, hours, follow_from)
            VALUES (%(instrument)s, tstzmultirange(tstzrange(%(from)s, %(to)s)), %(follow)s)
            ON CONFLICT (instrument_id) DO UPDATE SET
                hours = r.hours + excluded.hours, follow_from = least(r.follow_from, excluded.follow_from)
            """,
            {
                "instrument": instrument_id(self._conn, venue, product_id, asset_class, proof),
                "from": from_us(from_us_),
                "to": from_us(max(from_us_, to_us_)),
                "follow": from_us(from_us_) if follow else None,
            },
        )

    def looked(
        self, venue: str, product_id: str, asset_class: str, proof: str | None, hour_us: int, *, sure: bool
    ) -> None:
        """Record that the vendor was asked for an hour of quotes and has none. `sure`: no second look is needed."""
        number = instrument_id(self._conn, venue, product_id, asset_class, proof)
        self._conn.execute(statement("quote_looks_store"), (number, from_us(hour_us), sure))

    def live_products(self) -> dict[tuple[str, str], tuple[int, int, int]]:
        """Return (venue, product) -> (first id, newest id known to anybody, newest one that should be stored) of the
        products with a live stream."""
        rows = self._conn.execute(
            "SELECT venue, product_id, live_from, greatest(h.newest_id, live_from - 1),"
            " greatest(h.settled_id, live_from - 1)"
            " FROM trade_coverage JOIN instruments USING (instrument_id) LEFT JOIN trade_heads h USING (instrument_id)"
            " WHERE live_from IS NOT NULL"
        )
        return {(venue, product): (first, newest, settled) for venue, product, first, newest, settled in rows}

    def seconds(self) -> float:
        """Return the database's clock, in seconds since 1970."""
        return float(query.scalar(self._conn, "SELECT extract(epoch FROM clock_timestamp())"))

    def write_heads(self, heads: Iterable[Head], at_s: float | None = None) -> None:
        """Store heads; a product's live span begins at the lowest `from_id` of its heads.

        `at_s`: the moment by the database's clock from which their ages count, now by default. Whoever measures ages
        reads that clock before: what is then held up on its way here does not become younger by it.
        """
        at_s = self.seconds() if at_s is None else at_s
        with self._conn.transaction(), self._conn.cursor() as cursor:
            cursor.executemany(
                statement("heads_store"),
                [
                    vars(head)
                    | {
                        "at_s": at_s,
                        "instrument": instrument_id(
                            self._conn, head.venue, head.product_id, head.asset_class, head.proof
                        ),
                    }
                    for head in sorted(heads, key=lambda head: (head.venue, head.product_id))
                ],
            )

    def retire(self, venue: str, product_id: str) -> None:
        """Mark a product as no longer live; what its stream covered up to now stays requested."""
        self._conn.execute(
            "UPDATE trade_coverage c SET asked = a.ids, live_from = NULL FROM trade_asked a JOIN instruments i"
            " USING (instrument_id) WHERE c.instrument_id = a.instrument_id AND venue = %s AND product_id = %s",
            (venue, product_id),
        )

    # -- explanations -------------------------------------------------------------------------------------------------

    def sign(self, venue: str, product_id: str, spans: Iterable[tuple[int, int]], reason: str) -> None:
        """Sign the claims inside these ranges (inclusive) that have this reason, so that they count as explained.

        A claim `too_old` is not signed if it overlaps ids that a load requested, possibly since it was made.
        """
        with self._conn.cursor() as cursor:
            cursor.executemany(
                "UPDATE holes h SET signed_at = now() FROM trade_coverage c JOIN instruments i USING (instrument_id)"
                # `first_id` between both: otherwise each range reads all later claims in the index.
                " WHERE h.instrument_id = c.instrument_id AND signed_at IS NULL AND reason = %s"
                " AND first_id BETWEEN %s AND %s AND last_id <= %s AND venue = %s AND product_id = %s"
                " AND NOT (reason = 'too_old' AND c.asked && int8range(first_id, last_id, '[]'))",
                [(reason, first, last, last, venue, product_id) for first, last in spans],
            )

    @contextmanager
    def turn(self, what: str, stop: threading.Event, *, wait: bool = True, poll_s: float = 0.5) -> Iterator[bool]:
        """Context manager: an advisory lock on `what` (an instrument), held for one piece of work.

        Yields True with the lock held; False if stopped, or if another process holds it and `wait` is False.
        """
        key = ctypes.c_int32(zlib.crc32(what.encode())).value  # a signed 32-bit number
        logged = False
        while not (mine := bool(self._try_lock(key))) and wait and not stop.is_set():
            if not logged:
                get_logger().info(events.WAITING, on=f"turn of {what}", text="another process works on it")
                logged = True
            stop.wait(poll_s)
        try:
            yield mine
        finally:
            if mine and not self._conn.closed:
                self._conn.execute("SELECT pg_advisory_unlock(%s, %s)", (_TURN, key))

    def _try_lock(self, key: int) -> bool:
        return bool(query.scalar(self._conn, "SELECT pg_try_advisory_lock(%s, %s)", (_TURN, key)))


_TURN = 0x7475726E  # class of these advisory locks; an arbitrary constant
