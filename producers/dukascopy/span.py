"""Moments as people write them: `2019-02-04`, `2019-02-04T12`, `7_days_ago`, `1_year_ago`, `now`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from pipeline.errors import WrongUse
from pipeline.ledger import from_us, to_us
from producers.dukascopy.quotes import HOUR_US

_AGO = re.compile(r"(\d{1,5})_(hour|day|week|month|year)s?_ago")


def moment_us(text: str, now_us: int, name: str) -> int:
    """The whole hour meant, in µs since 1970 UTC; days ago begin at midnight. Raises `WrongUse` that names `name`."""
    wish = text.strip().lower()
    now = from_us(now_us)
    if wish == "now":
        return now_us - now_us % HOUR_US
    try:
        if match := _AGO.fullmatch(wish):
            return to_us(_ago(now, int(match[1]), match[2]))
        if re.fullmatch(r"\d{4}-\d\d-\d\d[t ]\d\d(:?00)?z?", wish):
            wish = wish[:13] + ":00"
        at = datetime.fromisoformat(wish.upper())
    except (ValueError, OverflowError):
        raise WrongUse(
            f"{name}: {text!r} is no moment; write 2019-02-04, 2019-02-04T12, 7_days_ago, 1_year_ago or now."
        ) from None
    at_us = to_us(at if at.tzinfo else at.replace(tzinfo=UTC))
    if at_us % HOUR_US:
        raise WrongUse(f"{name}: {text!r} is not a whole hour.")
    return at_us


def _ago(now: datetime, count: int, unit: str) -> datetime:
    if unit == "hour":
        return now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=count)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit in ("day", "week"):
        return today - timedelta(days=count * (7 if unit == "week" else 1))
    months = today.year * 12 + today.month - 1 - count * (12 if unit == "year" else 1)
    for day in (today.day, 30, 29, 28):  # a 31st or 29 February that the month does not have
        try:
            return today.replace(year=months // 12, month=months % 12 + 1, day=day)
        except ValueError:
            continue
    raise ValueError(count)
