"""When a market is closed for certain, so that its hours need not be asked.

Only what is certain: an hour at the edge of the week or of a holiday is asked, because quotes do appear there (GBPJPY
has one on Sunday, 2012-12-23, at 16:00 New York, an hour before the opening). What is open too long costs a call;
what is closed too long would lose quotes in silence. Daily breaks of metals and indices are not documented by the
vendor, hence not taken for granted.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.market_hours import closed_by_week
from producers.dukascopy.instruments import Instrument

HOUR_MS = 3_600_000
_BUSY_DAYS = (1, 2, 3)


def closed(instrument: Instrument, hour_us: int) -> bool:
    """Whether the whole hour lies safely inside a closed time of this instrument."""
    start_ms = hour_us // 1000
    if any(a + HOUR_MS <= start_ms and start_ms + 2 * HOUR_MS <= b for a, b in instrument.holidays_ms):
        return True
    return closed_by_week(instrument.session, hour_us)


def busy_hours(instrument: Instrument, before_us: int, count: int) -> list[int]:
    """The newest hours (µs) in which every market trades: 15:00 UTC from Tuesday to Thursday, no holiday."""
    found: list[int] = []
    day_us = 24 * HOUR_MS * 1000
    for midnight_us in range(before_us - before_us % day_us, before_us - 30 * day_us, -day_us):
        hour_us = midnight_us + 15 * HOUR_MS * 1000
        at = datetime.fromtimestamp(hour_us // 1_000_000, UTC)
        early = hour_us + HOUR_MS * 1000 > before_us or hour_us < (instrument.first_tick_us or 0)
        if at.weekday() in _BUSY_DAYS and not early and not closed(instrument, hour_us) and len(found) < count:
            found.append(hour_us)
    return found
