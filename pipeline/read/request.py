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
from pipeline.core.times import from_us, to_us
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
    """Context manager: the parsed request. Raises `WrongUse` for an invalid name or span, or if nothing is stored,
    and `Unavailable` without a database."""
    begin, stop = _moment("start", start, EARLIEST), _moment("end", end, LATEST)
    if start is not None and end is not None and begin > stop:
        raise WrongUse(f"start {begin.isoformat()} is after end {stop.isoformat()}; exchange them.")
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


def _moment(name: str, value: Moment, default: datetime) -> datetime:
    """Return a time in UTC: Polars does not compare times of different zones."""
    if value is None:
        return default
    if isinstance(value, str):
        return from_us(moment_us(value, now_us(), name))
    if not isinstance(value, date):
        raise WrongUse(f"{name}: {short(str(value))} is not a time; pass a text like 2019-02-04T12:00 or a datetime.")
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    return from_us(to_us(value if value.tzinfo else value.replace(tzinfo=UTC)))
