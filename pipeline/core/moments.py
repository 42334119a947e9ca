"""Parse times typed by users: `2019-02-04`, `2019-02-04T12`, `7_days_ago`, `1_year_ago`, `now`; UTC unless an offset is
given. Used for the options and settings of all programs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from pipeline.core.errors import WrongUse
from pipeline.core.products import short
from pipeline.core.times import HOUR_US, from_us, to_us

# Safe for 64-bit microseconds, the database and the calendar.
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_AGO = re.compile(r"([0-9]{1,5})_(hour|day|week|month|year)s?_ago")


def moment_us(text: str, now_us: int, name: str) -> int:
    """Parse a time into µs since 1970 UTC; N days ago is midnight, N hours ago the full hour.

    Raises `WrongUse` with `name`, the option or setting.
    """
    wish = text.strip().lower()
    if wish == "now":
        return now_us
    try:
        if match := _AGO.fullmatch(wish):
            at = _ago(from_us(now_us), int(match[1]), match[2])
        else:
            at = datetime.fromisoformat(wish.upper())
            at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise WrongUse(
            f"{name}: invalid time {short(text)}; write 2019-02-04, 2019-02-04T12:00, 7_days_ago, 1_year_ago or now."
        ) from None
    if not EARLIEST <= at <= LATEST:
        raise WrongUse(f"{name}: invalid time {short(text)}; it must lie between 1970 and 2200.")
    return to_us(at)


def whole_hour_us(text: str, now_us: int, name: str) -> int:
    """Parse a time that must be a whole hour; `now` is the start of the running hour. Raises `WrongUse`."""
    at_us = moment_us(text, now_us, name)
    if text.strip().lower() == "now":
        return at_us - at_us % HOUR_US
    if at_us % HOUR_US:
        raise WrongUse(f"{name}: {short(text)} is not a whole hour.")
    return at_us


def _ago(now: datetime, count: int, unit: str) -> datetime:
    if unit == "hour":
        return now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=count)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit in ("day", "week"):
        return today - timedelta(days=count * (7 if unit == "week" else 1))
    months = today.year * 12 + today.month - 1 - count * (12 if unit == "year" else 1)
    for day in (today.day, 30, 29, 28):  # the month may not have that day
        try:
            return today.replace(year=months // 12, month=months % 12 + 1, day=day)
        except ValueError:
            continue
    raise ValueError(count)
