"""Parse a request: names and times as typed by users, and the instrument's id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime

from pipeline.core.errors import WrongUse
from pipeline.core.moments import EARLIEST, LATEST, moment_us
from pipeline.core.products import canonical_venue, short
from pipeline.core.runtime import now_us
from pipeline.core.settings import DatabaseSettings, load
from pipeline.core.times import from_us
from pipeline.database.connection import Connection, connect
from venues.registry import product_at

Moment = str | date | datetime | None


@dataclass(frozen=True)
class Request:
    """An interval `[start, end)` of one instrument, and a connection."""

    conn: Connection
    instrument_id: int
    venue: str
    product_id: str
    start: datetime
    end: datetime


@contextmanager
def request(venue: str, product: str, start: Moment, end: Moment) -> Iterator[Request]:
    """Context manager: the parsed request. Raises `WrongUse` for an invalid name, or if nothing is stored of it, and
    `Unavailable` without a database."""
    begin, stop = _moment(start, EARLIEST), _moment(end, LATEST)
    if start is not None and end is not None and begin > stop:
        raise WrongUse(f"start {short(str(start))} is after end {short(str(end))}; give an earlier start.")
    venue = canonical_venue(venue)
    name = product_at(venue, product)
    with connect(load(DatabaseSettings), "read", read_only=True) as conn:
        conn.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        conn.execute("SET extra_float_digits = 3")
        row = conn.execute(
            "SELECT instrument_id FROM instruments WHERE venue = %s AND product_id = %s", (venue, name)
        ).fetchone()
        if row is None:
            raise WrongUse(f"no data of {venue} {name} is stored; see the view completeness.")
        yield Request(conn, row[0], venue, name, begin, stop)


def _moment(value: Moment, default: datetime) -> datetime:
    if value is None:
        return default
    if isinstance(value, str):
        return from_us(moment_us(value, now_us(), "start, end"))
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value if value.tzinfo else value.replace(tzinfo=UTC)
