"""When a market is closed for certain, so that its hours need not be asked.

Only what is certain, the week. Holidays are a message's word, so their hours are asked (some ten a year). So is an
hour at the edge of the week, because quotes do appear there (GBPJPY has one on Sunday, 2012-12-23, at 16:00 New York,
an hour before the opening). What is open too long costs a call; what is closed too long would lose quotes in silence.
Daily breaks of metals and indices are not documented by the vendor, hence not taken for granted.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from producers.dukascopy.instruments import Instrument, Session

NEW_YORK = ZoneInfo("America/New_York")
HOUR_MS = 3_600_000
_FRIDAY, _SUNDAY = 4, 6
_BUSY_DAYS = (1, 2, 3)


def closed(instrument: Instrument, hour_us: int) -> bool:
    """Whether the whole hour lies safely inside a closed time of this instrument."""
    return _closed_by_week(instrument.session, hour_us)


def busy_hours(instrument: Instrument, before_us: int, count: int) -> list[int]:
    """The newest hours (µs) in which every market trades: 15:00 UTC from Tuesday to Thursday, no holiday."""
    found: list[int] = []
    day_us = 24 * HOUR_MS * 1000
    for midnight_us in range(before_us - before_us % day_us, before_us - 30 * day_us, -day_us):
        hour_us = midnight_us + 15 * HOUR_MS * 1000
        at = datetime.fromtimestamp(hour_us // 1_000_000, UTC)
        early = hour_us + HOUR_MS * 1000 > before_us or hour_us < (instrument.first_tick_us or 0)
        shut = closed(instrument, hour_us) or _holiday(instrument, hour_us)
        if at.weekday() in _BUSY_DAYS and not early and not shut and len(found) < count:
            found.append(hour_us)
    return found


def _holiday(instrument: Instrument, hour_us: int) -> bool:
    """Whether a part of the hour is, by the vendor's word, on a holiday."""
    start_ms = hour_us // 1000
    return any(a < start_ms + HOUR_MS and start_ms < b for a, b in instrument.holidays_ms)


def _closed_by_week(session: Session, hour_us: int) -> bool:
    if session == "always":
        return False
    there = datetime.fromtimestamp(hour_us // 1_000_000, UTC).astimezone(NEW_YORK)
    hour_of_week = there.weekday() * 24 + there.hour
    # The week ends on Friday and begins on Sunday at 17:00 in New York; one hour of distance on both sides.
    if _FRIDAY * 24 + 18 <= hour_of_week < _SUNDAY * 24 + 16:
        return True
    # Shares of the United States: 9:30 to 16:00, and what comes before and after it by two hours.
    return session == "us_stock" and (there.weekday() == _SUNDAY or not 7 <= there.hour < 18)
