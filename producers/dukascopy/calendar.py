"""Hours that need no request, because the market is closed every week at that time (`venues.market_hours`).

Holidays are only claimed by an answer, so their hours are requested like others (some ten days a year). The vendor does
not document the daily breaks of metals and indices, so they are not assumed.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.core.times import HOUR_MS, HOUR_US
from producers.dukascopy.instruments import Instrument
from venues.market_hours import closed_by_week

_BUSY_DAYS = (1, 2, 3)


def closed(instrument: Instrument, hour_us: int) -> bool:
    """Whether the instrument's market is certainly closed for the whole hour."""
    return closed_by_week(instrument.session, hour_us)


def busy_hours(instrument: Instrument, before_us: int, count: int) -> list[int]:
    """Return the newest hours (µs) in which every market trades: 15:00 UTC, Tuesday to Thursday, no holiday."""
    found: list[int] = []
    day_us = 24 * HOUR_US
    for midnight_us in range(before_us - before_us % day_us, before_us - 30 * day_us, -day_us):
        hour_us = midnight_us + 15 * HOUR_US
        at = datetime.fromtimestamp(hour_us // 1_000_000, UTC)
        first_us = instrument.first_tick_us or instrument.vendor_first_us or 0
        early = hour_us + HOUR_US > before_us or hour_us < first_us
        shut = closed(instrument, hour_us) or _holiday(instrument, hour_us)
        if at.weekday() in _BUSY_DAYS and not early and not shut and len(found) < count:
            found.append(hour_us)
    return found


def _holiday(instrument: Instrument, hour_us: int) -> bool:
    """Whether part of the hour is a holiday according to the vendor."""
    start_ms = hour_us // 1000
    return any(a < start_ms + HOUR_MS and start_ms < b for a, b in instrument.holidays_ms)
