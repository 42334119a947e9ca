"""Number of calls for an interval. Pure functions; times in µs."""

from __future__ import annotations

from producers.exchange_candles.intervals import Interval, common
from producers.exchange_candles.rows import floor_us

# Coarser candles are requested, as a second look, if they save at least this many calls.
COARSE_FROM_PAGES = 3
# Limit of calls, MOST_PER_CALL * n + MOST_MORE for an interval of n pages, for exchanges that return next to nothing.
MOST_PER_CALL, MOST_MORE = 6, 20
LEAST_PAGE = 10


def calls_needed(from_us: int, to_us: int, granularity_s: int, page_size: int) -> int:
    """Return the calls needed to fetch `[from_us, to_us)` once with full pages."""
    candles = -(-(to_us - from_us) // (granularity_s * 1_000_000))
    return -(-candles // page_size)


def most_calls(from_us: int, to_us: int, granularity_s: int, page_size: int) -> int:
    """Return the limit of calls for `[from_us, to_us)`, however little an exchange returns."""
    return MOST_PER_CALL * calls_needed(from_us, to_us, granularity_s, max(LEAST_PAGE, page_size)) + MOST_MORE


def coarse_us(width_us: int, offered_s: list[int]) -> int | None:
    """Return the width of offered candles that consist of many of these: hours for minutes, days for hours; or None."""
    fit = [s * 1_000_000 for s in offered_s if s <= 86_400 and 86_400 % s == 0]
    return max((big for big in fit if big % width_us == 0 and 4 <= big // width_us <= 60), default=None)


def whole(span: Interval, width_us: int) -> list[Interval]:
    """Return the part of an interval that consists of complete coarser candles."""
    return common([span], [(floor_us(span[0] + width_us - 1, width_us), floor_us(span[1], width_us))])
