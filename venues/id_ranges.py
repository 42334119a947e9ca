"""Ranges of trade ids as `(first, last)`, inclusive; lists of them are ascending and disjoint."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

IdRange = tuple[int, int]


def of_ids(ids: Iterable[int]) -> list[IdRange]:
    """Return the ranges formed by these ids."""
    spans: list[IdRange] = []
    for number in sorted(set(ids)):
        if spans and spans[-1][1] == number - 1:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    return spans


def merged(spans: Iterable[IdRange]) -> list[IdRange]:
    """Return the union: sorted, with overlapping and adjacent ranges joined."""
    made: list[IdRange] = []
    for first, last in sorted(spans):
        if made and first <= made[-1][1] + 1:
            made[-1] = (made[-1][0], max(made[-1][1], last))
        else:
            made.append((first, last))
    return made


def common(left: Iterable[IdRange], right: Iterable[IdRange]) -> list[IdRange]:
    """Return the intersection."""
    spans = merged(left)
    return without(spans, without(spans, right))


def without(spans: Iterable[IdRange], taken: Iterable[IdRange]) -> list[IdRange]:
    """Return the difference: ids in `spans` that are not in `taken`. Both are walked once, in step."""
    rest: list[IdRange] = []
    away, at = merged(taken), 0
    for first, last in merged(spans):
        while at < len(away) and away[at][0] <= last:
            off, on = away[at]
            if first < off:
                rest.append((first, off - 1))
            first = max(first, on + 1)
            if on > last:
                break  # it may reach into the next range
            at += 1
        if first <= last:
            rest.append((first, last))
    return rest


def near(spans: Sequence[IdRange], first: int, last: int) -> Sequence[IdRange]:
    """Return those of ascending and disjoint ranges that share an id with `first..last`."""
    low = bisect_left(spans, first, key=lambda span: span[1])
    return spans[low : bisect_right(spans, last, lo=low, key=lambda span: span[0])]


def between(ids: Iterable[int]) -> list[IdRange]:
    """Return the ranges missing between the smallest and the largest of these ids."""
    runs = of_ids(ids)
    return [(left[1] + 1, right[0] - 1) for left, right in pairwise(runs)]


def ids_of(spans: Iterable[IdRange]) -> Iterator[int]:
    """Yield every id, ascending. For small ranges only."""
    for first, last in spans:
        yield from range(first, last + 1)


def size(spans: Iterable[IdRange]) -> int:
    """Return the number of ids."""
    return sum(last - first + 1 for first, last in spans)


def newest_cluster(spans: list[IdRange], distance: int) -> list[IdRange]:
    """Return the last ranges that lie less than `distance` ids apart, so that one walk covers them all."""
    cluster = spans[-1:]
    for span in reversed(spans[:-1]):
        if cluster[0][0] - span[1] >= distance:
            break
        cluster.insert(0, span)
    return cluster


def contains(spans: list[IdRange], number: int) -> bool:
    """Return whether an id lies in one of the ranges. Linear search, for few ranges."""
    return any(first <= number <= last for first, last in spans)
