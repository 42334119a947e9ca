"""The page of completeness: per instrument a day's worth of squares, and what is behind the coloured ones."""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import UTC, date, datetime, timedelta
from typing import Any

from dashboard.market import SQL, Instrument, gaps
from dashboard.store import Store
from pipeline.ledger import to_us

DAYS = 182
# Counting repaired trades reads them; the answer is kept for this long.
KEEP_S = 30.0
_MOST_KEPT = 500


class Calendar:
    """Days of instruments: rows, missing, explained and repaired."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[int, date], tuple[float, list[dict[str, Any]]]] = OrderedDict()

    async def days(self, one: Instrument, end: date | None) -> list[dict[str, Any]]:
        """The `DAYS` days up to `end` (included; None: the instrument's last), ascending; none where nothing is stored.

        `state`: complete, repaired (complete after a repair), missing, explained (some of it never comes), partial,
        sampled (tickers) or empty.
        """
        last = end or await self._last_day(one)
        if last is None:
            return []
        kept = self._kept.get((one.instrument_id, last))
        if kept is not None and time.monotonic() - kept[0] < KEEP_S:
            return kept[1]
        first = last - timedelta(days=DAYS - 1)
        begin, stop = _midnight(first), _midnight(last + timedelta(days=1))
        query = SQL / ("days_trades.sql" if one.kind == "trades" else "days_quotes.sql")
        rows = await self._store.rows(
            query.read_text(encoding="utf-8"), {"id": one.instrument_id, "from": begin, "to": stop}
        )
        days = {row[0]: {"day": row[0].isoformat(), "rows": int(row[1]), "repaired": int(row[2] or 0), "missing": 0,
                         "explained": 0, "partial": False, "reasons": []} for row in rows}  # fmt: skip
        for span in await gaps(self._store, one, to_us(begin), to_us(stop)):
            first_day = datetime.fromtimestamp(span.from_s, UTC).date()
            last_day = datetime.fromtimestamp(max(span.from_s, span.to_s - 0.001), UTC).date()
            for day in (first_day + timedelta(days=n) for n in range((last_day - first_day).days + 1)):
                if not first <= day <= last:
                    continue
                found = days.setdefault(day, {"day": day.isoformat(), "rows": 0, "repaired": 0, "missing": 0,
                                              "explained": 0, "partial": False, "reasons": []})  # fmt: skip
                if span.state == "partial":
                    found["partial"] = True
                else:
                    found[span.state] += _share(span.count, span.from_s, span.to_s, day) if one.kind == "quotes" else (
                        span.count or 1
                    )  # fmt: skip
                if span.reason not in found["reasons"]:
                    found["reasons"].append(span.reason)
        for found in days.values():
            found["state"] = _state(found, one.kind)
        made = [days[day] for day in sorted(days)]
        self._kept[one.instrument_id, last] = time.monotonic(), made
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return made

    async def _last_day(self, one: Instrument) -> date | None:
        table = "trade_candle_1h" if one.kind == "trades" else "quote_candle_1h"
        query = f"SELECT max(bucket) FROM {table} WHERE instrument_id = %s"  # noqa: S608
        rows = await self._store.rows(query, (one.instrument_id,))
        return rows[0][0].date() if rows and rows[0][0] is not None else None


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _share(count: int | None, from_s: float, to_s: float, day: date) -> int:
    """Hours of a run of hours that lie on `day`."""
    begin = _midnight(day).timestamp()
    return max(0, int(min(to_s, begin + 86_400) - max(from_s, begin)) // 3600) or (count or 1)


def _state(found: dict[str, Any], kind: str) -> str:
    if found["missing"]:
        return "missing"
    if kind == "tickers":
        return "sampled"
    if found["explained"]:
        return "explained"
    if found["partial"]:
        return "partial"
    return "repaired" if found["repaired"] else "complete" if found["rows"] else "empty"
