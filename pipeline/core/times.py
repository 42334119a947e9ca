"""Convert times to microseconds since 1970 and back, without floating-point arithmetic."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from pipeline.core.errors import BadData

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR_MS, HOUR_US = 3_600_000, 3_600_000_000
DAY_US = 24 * HOUR_US
# Times of data lie in [OLDEST_US, END_US): 2000, because no venue here is older, to 2100.
OLDEST_US, END_US = 946_684_800_000_000, 4_102_444_800_000_000
_MICROSECOND = timedelta(microseconds=1)
_SECONDS = re.compile(r"([0-9]{1,12})(?:\.([0-9]+))?")


@lru_cache(maxsize=256)
def _second_us(text: str) -> int:
    """`2026-09-26T18:07:54` -> µs since 1970. Cached, because there are many trades per second."""
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - EPOCH) // _MICROSECOND


def iso_to_us(text: str) -> int:
    """`2026-09-26T18:07:54.626190Z` -> µs since 1970; 0 to 9 digits of fraction, truncated to µs.

    An offset instead of `Z` is accepted. Raises `BadData("time")`.
    """
    try:
        if text[-1] == "Z" and text[10] == "T":
            fraction = text[20:-1]
            if len(text) > 20 and not (text[19] == "." and 0 < len(fraction) <= 9 and fraction.isdecimal()):
                raise ValueError(fraction)
            return _second_us(text[:19]) + int(fraction[:6].ljust(6, "0"))
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("no time zone")
        return (moment - EPOCH) // _MICROSECOND
    except (ValueError, TypeError, IndexError, OverflowError):
        raise BadData("time", f"invalid time {text!r}: a date, a time and a zone are needed") from None


def seconds_to_us(text: str) -> int:
    """`1762795433.9717445` (seconds since 1970 as text) -> µs, truncated. Raises `BadData("time")`."""
    match = _SECONDS.fullmatch(text)
    if match is None:
        raise BadData("time", f"invalid number of seconds {text!r}")
    return int(match[1]) * 1_000_000 + int((match[2] or "0")[:6].ljust(6, "0"))


def to_us(moment: datetime) -> int:
    """Return the exact microseconds since 1970."""
    return (moment - EPOCH) // _MICROSECOND


def from_us(timestamp_us: int) -> datetime:
    """Return the UTC datetime for microseconds since 1970."""
    return EPOCH + timedelta(microseconds=timestamp_us)


def us_to_iso(timestamp_us: int) -> str:
    """µs since 1970 -> `2026-09-26T18:07:54.626190Z`; a zero fraction is omitted."""
    return from_us(timestamp_us).isoformat().replace("+00:00", "Z")


def duration(seconds: float) -> str:
    """Return rounded seconds as text for users: `45 s`, `3 min 5 s` or `2 h 10 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
