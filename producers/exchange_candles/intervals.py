"""Intervals of time, `(begin, end)` in µs, end exclusive. Pure functions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

Interval = tuple[int, int]
FOREVER = 1 << 62


def merged(*spans: Interval) -> list[Interval]:
    """Return the union: sorted, with overlapping and adjacent intervals joined."""
    made: list[Interval] = []
    for a, b in sorted(span for span in spans if span[0] < span[1]):
        if made and a <= made[-1][1]:
            made[-1] = (made[-1][0], max(made[-1][1], b))
        else:
            made.append((a, b))
    return made


def common(left: Iterable[Interval], right: Iterable[Interval]) -> list[Interval]:
    """Return the intersection."""
    ones, others = merged(*left), merged(*right)
    made: list[Interval] = []
    i = j = 0
    while i < len(ones) and j < len(others):
        begin, end = max(ones[i][0], others[j][0]), min(ones[i][1], others[j][1])
        if begin < end:
            made.append((begin, end))
        if ones[i][1] < others[j][1]:
            i += 1
        else:
            j += 1
    return made


def without(spans: Iterable[Interval], taken: Iterable[Interval]) -> list[Interval]:
    """Return the difference: time in `spans` that is not in `taken`."""
    away = merged(*taken)
    ends = [b for _, b in away]
    made: list[Interval] = []
    for a, b in merged(*spans):
        for off, on in away[bisect_right(ends, a) :]:
            if off >= b:
                break
            if off > a:
                made.append((a, off))
            a = on
        if a < b:
            made.append((a, b))
    return made


def holds(spans: list[Interval], moment_us: int) -> bool:
    """Whether one of the merged intervals contains the time."""
    at = bisect_right(spans, (moment_us, FOREVER)) - 1
    return at >= 0 and moment_us < spans[at][1]
