"""Which spans are due: ended, complete by the ledger, and not archived in their current state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg import sql

from pipeline.archive.layout import LAYOUTS, Kind, Span, day_of, month_of
from pipeline.archive.rows import CANDLES
from pipeline.database import query
from pipeline.database.connection import Connection
from pipeline.database.sql import statement

THIN_ROWS = 20_000
"""An instrument with fewer rows per month gets a file per month: a quarter of a file of 650 rows is footer and
dictionaries."""


@dataclass(frozen=True)
class Due:
    """A span to archive, or what it waits for. `again`: it is archived already and has changed."""

    span: Span
    rows: int
    again: bool
    waits_for: str | None = None


@dataclass(frozen=True)
class _Day:
    instrument_id: int
    venue: str
    product_id: str
    day: datetime
    rows: int
    span_from: datetime | None
    span_to: datetime | None
    archived: bool
    complete: bool


def due(conn: Connection, before: datetime, kinds: Iterable[Kind] = tuple(LAYOUTS)) -> list[Due]:
    """Return the spans that ended before a time and are not archived in their current state, oldest first."""
    found: list[Due] = []
    for kind in kinds:
        days = query.rows(conn, _Day, statement(f"archive/due_{kind}"), {"before": before})
        groups: dict[tuple[int, datetime], list[_Day]] = defaultdict(list)
        for day in days:
            groups[day.instrument_id, month_of(day.day)[0]].append(day)
        for month in groups.values():
            found += _candles(month, kind) if kind == "exchange_candles" else _ticks(conn, month, kind, before)
    return sorted(found, key=lambda one: (one.span.from_ts, one.span.kind, one.span.instrument_id))


def _candles(months: list[_Day], kind: Kind) -> list[Due]:
    return [_due(kind, month, month_of(month.day), [month], "final candles") for month in months]


def _ticks(conn: Connection, days: list[_Day], kind: Kind, before: datetime) -> list[Due]:
    """Return the spans of one instrument and month: existing ones are kept, other days become days or one month."""
    found: list[Due] = []
    waits = "missing ids" if kind == "trades" else "missing hours"
    spans: dict[tuple[datetime, datetime], list[_Day]] = defaultdict(list)
    for day in days:
        if day.archived and day.span_from and day.span_to:
            spans[day.span_from, day.span_to].append(day)
    found += [_due(kind, inside[0], span, inside, waits) for span, inside in spans.items()]
    fresh = [day for day in days if not day.archived]
    if not fresh:
        return found
    month = month_of(fresh[0].day)
    over = month[1] <= before
    if not _in_days(conn, fresh[0], kind, month) and _rows(conn, fresh[0], kind, month if over else None) < THIN_ROWS:
        why = waits if over else "the end of the month, because it is thin"
        return [*found, _due(kind, fresh[0], month, fresh, why, ready=over)]
    return [*found, *(_due(kind, day, day_of(day.day), [day], waits) for day in fresh)]


def _due(
    kind: Kind, about: _Day, span: tuple[datetime, datetime], days: list[_Day], waits: str, *, ready: bool = True
) -> Due:
    made = Span(about.instrument_id, about.venue, about.product_id, kind, *span)
    complete = ready and all(day.complete for day in days)
    return Due(made, sum(day.rows for day in days), about.archived, None if complete else waits)


def _in_days(conn: Connection, about: _Day, kind: Kind, month: tuple[datetime, datetime]) -> bool:
    """Whether days of this month have their own files already."""
    asked = (
        "SELECT EXISTS (SELECT FROM archive_spans WHERE instrument_id = %s AND kind = %s AND from_ts >= %s"
        " AND to_ts <= %s AND to_ts - from_ts = INTERVAL '1 day' AND archived_changes IS NOT NULL)"
    )
    return bool(query.scalar(conn, asked, (about.instrument_id, kind, *month)))


def _rows(conn: Connection, about: _Day, kind: Kind, month: tuple[datetime, datetime] | None) -> int:
    """Return the rows of a month, or of the last 31 days if it has not ended."""
    low, high = month or (about.day - timedelta(days=30), about.day + timedelta(days=1))
    asked = sql.SQL(
        "SELECT coalesce(sum(ticks), 0)::bigint FROM {} WHERE instrument_id = %s AND bucket >= %s AND bucket < %s"
    ).format(sql.Identifier(CANDLES[kind]))
    return int(query.scalar(conn, asked, (about.instrument_id, low, high)))
