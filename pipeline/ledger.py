"""Reading the ledger: what is stored, what is missing, what is explained. Only the writers change it."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipeline import events
from pipeline.database import Connection
from pipeline.log import get_logger

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(timestamp_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=timestamp_us)


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
        return self.last_id - self.first_id + 1


@dataclass(frozen=True)
class TradeSpan:
    """The stored trades of one instrument, from first to last id."""

    first_id: int
    last_id: int
    rows: int
    first_us: int | None  # venue time of the first and of the last stored trade
    last_us: int | None


@dataclass(frozen=True)
class Hour:
    """A row of `quote_hours`."""

    hour_us: int
    state: str  # present, partial, seen_empty, confirmed_empty, closed
    ticks: int
    feed: str
    fetched_at_us: int
    checksum: int
    revision: int

    @property
    def accounted(self) -> bool:
        """Nobody needs to ask for this hour again."""
        return self.state in ("present", "confirmed_empty", "closed")


class Ledger:
    """Questions to the ledger over one autocommit connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def trade_gaps(self, venue: str | None = None, product_id: str | None = None) -> list[IdGap]:
        """Holes in the ids that are not explained, newest first."""
        rows = self._conn.execute(
            """
            SELECT g.venue, g.product_id, g.first_id, g.last_id,
                   (SELECT ts FROM trades t
                    WHERE t.instrument_id = g.instrument_id AND t.trade_id = g.first_id - 1 LIMIT 1),
                   (SELECT ts FROM trades t
                    WHERE t.instrument_id = g.instrument_id AND t.trade_id = g.last_id + 1 LIMIT 1)
            FROM trade_gaps g
            WHERE (%(venue)s::text IS NULL OR g.venue = %(venue)s)
              AND (%(product)s::text IS NULL OR g.product_id = %(product)s)
            ORDER BY 6 DESC NULLS LAST, g.last_id DESC
            """,
            {"venue": venue, "product": product_id},
        )
        return [IdGap(r[0], r[1], r[2], r[3], r[4] and to_us(r[4]), r[5] and to_us(r[5])) for r in rows]

    def trade_span(self, venue: str, product_id: str) -> TradeSpan | None:
        """First and last stored trade of an instrument; None when there is none."""
        row = self._conn.execute(
            """
            SELECT lower(ids), upper(ids) - 1, rows,
                   (SELECT ts FROM trades t
                    WHERE t.instrument_id = c.instrument_id AND t.trade_id = lower(c.ids) LIMIT 1),
                   (SELECT ts FROM trades t
                    WHERE t.instrument_id = c.instrument_id AND t.trade_id = upper(c.ids) - 1 LIMIT 1)
            FROM trade_coverage c JOIN instruments i USING (instrument_id)
            WHERE i.venue = %s AND i.product_id = %s AND NOT isempty(c.ids)
            """,
            (venue, product_id),
        ).fetchone()
        return row and TradeSpan(row[0], row[1], row[2], row[3] and to_us(row[3]), row[4] and to_us(row[4]))

    def missing_ids(self, venue: str, product_id: str, first_id: int, last_id: int) -> list[tuple[int, int]]:
        """Spans (inclusive) inside `first_id..last_id` that are neither stored nor explained, ascending."""
        rows = self._conn.execute(
            """
            SELECT lower(gap), upper(gap) - 1 FROM unnest(
                int8multirange(int8range(%(first)s, %(last)s, '[]'))
                - coalesce((SELECT ids FROM trade_coverage JOIN instruments i USING (instrument_id)
                            WHERE i.venue = %(venue)s AND i.product_id = %(product)s), '{}')
                - coalesce((SELECT range_agg(int8range(h.first_id, h.last_id, '[]')) FROM holes h
                            JOIN instruments i USING (instrument_id)
                            WHERE i.venue = %(venue)s AND i.product_id = %(product)s AND h.first_id IS NOT NULL), '{}')
            ) AS gap
            """,
            {"first": first_id, "last": last_id, "venue": venue, "product": product_id},
        )
        return [(row[0], row[1]) for row in rows]

    def trade_time_us(self, venue: str, product_id: str, trade_id: int) -> int | None:
        """Venue time of one stored trade."""
        row = self._conn.execute(
            "SELECT ts FROM trades JOIN instruments i USING (instrument_id)"
            " WHERE i.venue = %s AND i.product_id = %s AND trade_id = %s LIMIT 1",
            (venue, product_id, trade_id),
        ).fetchone()
        return row and to_us(row[0])

    def time_before_us(self, venue: str, product_id: str, trade_id: int) -> int | None:
        """Venue time of the nearest stored trade with a smaller id."""
        row = self._conn.execute(
            "SELECT ts FROM trades WHERE instrument_id ="
            " (SELECT instrument_id FROM instruments WHERE venue = %s AND product_id = %s)"
            " AND trade_id < %s ORDER BY trade_id DESC LIMIT 1",
            (venue, product_id, trade_id),
        ).fetchone()
        return row and to_us(row[0])

    def quote_hours(self, venue: str, product_id: str, from_us_: int, to_us_: int) -> dict[int, Hour]:
        """Hours of `[from, to)` that the ledger knows, by their start in µs."""
        rows = self._conn.execute(
            """
            SELECT hour, state::text, ticks, feed, fetched_at, checksum, revision
            FROM quote_hours JOIN instruments i USING (instrument_id)
            WHERE i.venue = %s AND i.product_id = %s AND hour >= %s AND hour < %s
            """,
            (venue, product_id, from_us(from_us_), from_us(to_us_)),
        )
        return {to_us(r[0]): Hour(to_us(r[0]), r[1], r[2], r[3], to_us(r[4]), r[5], r[6]) for r in rows}

    def newest_quote_hours(self, venue: str, product_id: str, before_us: int, count: int) -> list[int]:
        """The last hours before this moment that have quotes, newest first, by their start in µs."""
        rows = self._conn.execute(
            """
            SELECT hour FROM quote_hours JOIN instruments i USING (instrument_id)
            WHERE i.venue = %s AND i.product_id = %s AND hour < %s AND state = 'present' AND ticks > 0
            ORDER BY hour DESC LIMIT %s
            """,
            (venue, product_id, from_us(before_us), count),
        )
        return [to_us(row[0]) for row in rows]

    @contextmanager
    def turn(self, what: str, stop: threading.Event, *, wait: bool = True, poll_s: float = 0.5) -> Iterator[bool]:
        """Work on `what` (an instrument) by one process at a time; held for one piece of work.

        Gives True when it is our turn; False when stopped, or when another has it and `wait` is False.
        """
        key = zlib.crc32(what.encode())
        said = False
        while not (mine := bool(self._try_lock(key))) and wait and not stop.is_set():
            if not said:
                get_logger().info(events.WAITING, on=f"turn of {what}", text="another process works on it")
                said = True
            stop.wait(poll_s)
        try:
            yield mine
        finally:
            if mine and not self._conn.closed:
                self._conn.execute("SELECT pg_advisory_unlock(%s, %s)", (_TURN, _signed(key)))

    def _try_lock(self, key: int) -> bool:
        row = self._conn.execute("SELECT pg_try_advisory_lock(%s, %s)", (_TURN, _signed(key))).fetchone()
        return bool(row and row[0])


_TURN = 0x7475726E  # the class of these advisory locks; any constant


def _signed(key: int) -> int:
    return key - (1 << 32) if key >= 1 << 31 else key
