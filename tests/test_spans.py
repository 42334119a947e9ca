"""Arithmetic of id spans against plain sets: an error of one here is a trade lost or asked for forever."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from producers import spans

SPANS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=6
)


def ids(of: list[spans.Span]) -> set[int]:
    return {number for first, last in of for number in range(first, last + 1)}


def tidy(of: list[spans.Span]) -> bool:
    return all(first <= last for first, last in of) and all(a[1] + 1 < b[0] for a, b in pairwise(of))


@given(SPANS, SPANS)
def test_like_sets(left: list[spans.Span], right: list[spans.Span]) -> None:
    for made, expected in (
        (spans.merged(left), ids(left)),
        (spans.common(left, right), ids(left) & ids(right)),
        (spans.without(left, right), ids(left) - ids(right)),
        (spans.of_ids(ids(left)), ids(left)),
    ):
        assert ids(made) == expected
        assert tidy(made)
        assert spans.size(made) == len(expected)


@given(st.sets(st.integers(0, 60), min_size=1))
def test_between(numbers: set[int]) -> None:
    assert ids(spans.between(numbers)) == set(range(min(numbers), max(numbers))) - numbers


def test_newest_cluster_takes_what_one_walk_passes() -> None:
    found = [(1, 2), (500, 510), (600, 600), (690, 700)]
    assert spans.newest_cluster(found, 100) == [(500, 510), (600, 600), (690, 700)]
    assert spans.newest_cluster(found, 50) == [(690, 700)]
    assert spans.newest_cluster([], 50) == []
