"""The completeness calendar: a square per instrument and day, with details."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from dashboard.queries import Interval, gaps
from dashboard.store import Store
from pipeline.core.times import to_us
from pipeline.database.sql import statement
from pipeline.ops.claim import EMPTY_AT_VENUE, provable
from pipeline.stream.instruments import Instrument
from venues.adapter import Proof

DAYS = 182
# Counting repaired trades reads them; the result is cached for this long.
KEEP_S = 10.0
_MOST_KEPT = 64  # of some 100 kB each
# A span costs two index look-ups: 5,000 take 1.3 s while 16 processes compete for two cores. Days before the last span
# that fits are unknown.
_MOST_SPANS = 5_000


@dataclass(frozen=True)
class _Known:
    """The ledger's knowledge of an instrument, see sql/dashboard/known.sql."""

    live: bool
    proven_until: datetime | None
    unknown: bool


@dataclass(frozen=True)
class _Day:
    """The stored data of a day; `repaired` None: not counted."""

    day: date
    rows: int
    repaired: int | None


@dataclass(frozen=True)
class _Archived:
    """An archived day; `in_tables`: the rows are in the tables too."""

    day: date
    in_tables: bool


class Calendar:
    """Days of instruments: rows, missing, explained and repaired."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[int, date | None], tuple[float, list[dict[str, Any]]]] = OrderedDict()

    async def days(self, one: Instrument, end: date | None) -> list[dict[str, Any]]:
        """Return the `DAYS` days up to `end` (inclusive; None: the instrument's last, today if streamed), ascending;
        empty if nothing is stored.

        `tier`: where the rows are: tables, files, both, or None if there are none.

        `state`: complete, repaired (complete after a repair), missing, unknown (the venue could not be asked), lost
        (some data cannot be fetched: too old, refused), explained (the venue has none), partial, sampled, unproven or
        empty.
        """
        kept = self._kept.get((one.instrument_id, end))
        if kept is not None and time.monotonic() - kept[0] < KEEP_S:
            return kept[1]
        made = await self._made(one, end)
        self._kept[one.instrument_id, end] = time.monotonic(), made
        self._kept.move_to_end((one.instrument_id, end))
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return made

    async def _made(self, one: Instrument, end: date | None) -> list[dict[str, Any]]:
        today = datetime.now(UTC).date()
        known = await self._store.rows(
            _Known, statement("dashboard/known"), {"id": one.instrument_id, "kind": one.kind}
        )
        claim = known[0] if known else _Known(live=False, proven_until=None, unknown=False)
        last = end or await self._last_day(one)
        if end is None and claim.live and (last is None or (today - last).days < DAYS):
            last = today  # data missing now belongs to today
        if last is None:
            return []
        first = last - timedelta(days=DAYS - 1)
        begin, stop = _midnight(first), _midnight(last + timedelta(days=1))
        stored = await self._store.rows(
            _Day,
            statement("dashboard/days_trades" if one.kind == "trades" else "dashboard/days_quotes"),
            {"id": one.instrument_id, "from": begin, "to": stop},
        )
        days = {found.day: _day(found.day, found.rows, found.repaired or 0) for found in stored}
        spans = await gaps(self._store, one, to_us(begin), to_us(stop), _MOST_SPANS)
        for span in spans:
            _enter(days, span, one.proof, first, last)
        if claim.unknown:
            proven = claim.proven_until.date() if claim.proven_until else today
            for day in _between(max(first, proven), min(last, today)):
                days.setdefault(day, _day(day))["unknown"] = True
        if len(spans) >= _MOST_SPANS:
            oldest = datetime.fromtimestamp(spans[-1].from_s, UTC).date()
            for day, found in days.items():
                found["unknown"] |= day <= oldest
        for found in days.values():
            found["state"] = _state(found, one.proof)
        kind = "trades" if one.kind == "trades" else "quotes"
        asked = {"id": one.instrument_id, "kind": kind, "from": begin, "to": stop}
        for held in await self._store.rows(_Archived, statement("dashboard/days_archived"), asked):
            if (found_day := days.get(held.day)) and found_day["rows"]:
                found_day["tier"] = "both" if held.in_tables else "files"
        return [days[day] for day in sorted(days)]

    async def _last_day(self, one: Instrument) -> date | None:
        table = "trade_candle_1h" if one.kind == "trades" else "quote_candle_1h"
        query = f"SELECT max(bucket) AS bucket FROM {table} WHERE instrument_id = %s"  # noqa: S608
        (newest,) = await self._store.rows(dict[str, datetime | None], query, (one.instrument_id,))
        return bucket.date() if (bucket := newest["bucket"]) is not None else None


def _day(day: date, rows: int = 0, repaired: int = 0) -> dict[str, Any]:
    return {
        "day": day.isoformat(),
        "rows": rows,
        "tier": "tables" if rows else None,
        "repaired": repaired,
        "missing": 0,
        "explained": 0,
        "lost": 0,
        "partial": False,
        "unknown": False,
        "reasons": [],
    }


def _between(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _enter(days: dict[date, dict[str, Any]], span: Interval, proof: str | None, first: date, last: date) -> None:
    """Add a span to each day that it touches."""
    begins = datetime.fromtimestamp(span.from_s, UTC).date()
    ends = datetime.fromtimestamp(max(span.from_s, span.to_s - 0.001), UTC).date()
    for day in _between(max(begins, first), min(ends, last)):
        found = days.setdefault(day, _day(day))
        if span.state == "partial":
            found["partial"] = True
        else:
            count = _share(span.count, span.from_s, span.to_s, day) if proof == Proof.HOURS else span.count or 1
            venues_own = proof == Proof.SAMPLED or span.reason in EMPTY_AT_VENUE
            found["missing" if span.state == "missing" else "explained" if venues_own else "lost"] += count
        if span.reason not in found["reasons"]:
            found["reasons"].append(span.reason)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _share(count: int | None, from_s: float, to_s: float, day: date) -> int:
    """Return the hours of a range of hours that lie on `day`."""
    begin = _midnight(day).timestamp()
    return max(0, int(min(to_s, begin + 86_400) - max(from_s, begin)) // 3600) or (count or 1)


def _state(found: dict[str, Any], proof: str | None) -> str:
    if found["missing"]:
        return "missing"
    if not provable(proof):
        return "sampled" if proof == Proof.SAMPLED else "unproven"
    for state in ("unknown", "lost", "explained", "partial"):
        if found[state]:
            return state
    return "repaired" if found["repaired"] else "complete" if found["rows"] else "empty"
