"""Runs of trade ids as `(first, last)`, both included, ascending and apart from each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

IdRange = tuple[int, int]


def of_ids(ids: Iterable[int]) -> list[IdRange]:
    """The runs that these ids form."""
    spans: list[IdRange] = []
    for number in sorted(set(ids)):
        if spans and spans[-1][1] == number - 1:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    return spans


def merged(spans: Iterable[IdRange]) -> list[IdRange]:
    """The same ids, without overlap."""
    made: list[IdRange] = []
    for first, last in sorted(spans):
        if made and first <= made[-1][1] + 1:
            made[-1] = (made[-1][0], max(made[-1][1], last))
        else:
            made.append((first, last))
    return made


def common(left: Iterable[IdRange], right: Iterable[IdRange]) -> list[IdRange]:
    """Ids that are in both."""
    others = merged(right)
    pairs = ((max(a, c), min(b, d)) for a, b in left for c, d in others)
    return merged((first, last) for first, last in pairs if first <= last)


def without(spans: Iterable[IdRange], taken: Iterable[IdRange]) -> list[IdRange]:
    """Ids of `spans` that are not in `taken`."""
    rest: list[IdRange] = []
    away = merged(taken)
    for first, last in merged(spans):
        for off, on in away:
            if on < first:
                continue
            if off > last:
                break
            if off > first:
                rest.append((first, off - 1))
            first = on + 1
        if first <= last:
            rest.append((first, last))
    return rest


def between(ids: Iterable[int]) -> list[IdRange]:
    """The runs missing between the smallest and the largest of these ids."""
    runs = of_ids(ids)
    return [(left[1] + 1, right[0] - 1) for left, right in pairwise(runs)]


def ids_of(spans: Iterable[IdRange]) -> Iterator[int]:
    """Every single id, ascending; for few ids only."""
    for first, last in spans:
        yield from range(first, last + 1)


def size(spans: Iterable[IdRange]) -> int:
    """How many ids."""
    return sum(last - first + 1 for first, last in spans)


def newest_cluster(spans: list[IdRange], distance: int) -> list[IdRange]:
    """The last spans that lie less than `distance` ids apart, so that one walk passes them all."""
    cluster = spans[-1:]
    for span in reversed(spans[:-1]):
        if cluster[0][0] - span[1] >= distance:
            break
        cluster.insert(0, span)
    return cluster


def contains(spans: list[IdRange], number: int) -> bool:
    """Whether an id is in one of a few spans."""
    return any(first <= number <= last for first, last in spans)
