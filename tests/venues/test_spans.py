"""Arithmetic of id spans against plain sets: an error of one here is a trade lost or asked for forever."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from venues import id_ranges

SPANS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=6
)


def ids(of: list[id_ranges.IdRange]) -> set[int]:
    return {number for first, last in of for number in range(first, last + 1)}


def tidy(of: list[id_ranges.IdRange]) -> bool:
    return all(first <= last for first, last in of) and all(a[1] + 1 < b[0] for a, b in pairwise(of))


@given(SPANS, SPANS)
def test_like_sets(left: list[id_ranges.IdRange], right: list[id_ranges.IdRange]) -> None:
    for made, expected in (
        (id_ranges.merged(left), ids(left)),
        (id_ranges.common(left, right), ids(left) & ids(right)),
        (id_ranges.without(left, right), ids(left) - ids(right)),
        (id_ranges.of_ids(ids(left)), ids(left)),
    ):
        assert ids(made) == expected
        assert tidy(made)
        assert id_ranges.size(made) == len(expected)


@given(SPANS, SPANS)
def test_near_are_those_that_share_an_id(some: list[id_ranges.IdRange], wanted: list[id_ranges.IdRange]) -> None:
    """Prevents a range that is looked over when only its neighbourhood is searched."""
    spans = id_ranges.merged(some)
    for first, last in wanted:
        assert id_ranges.near(spans, first, last) == [one for one in spans if one[0] <= last and one[1] >= first]


@given(st.sets(st.integers(0, 60), min_size=1))
def test_between(numbers: set[int]) -> None:
    assert ids(id_ranges.between(numbers)) == set(range(min(numbers), max(numbers))) - numbers


def test_newest_cluster_takes_what_one_walk_passes() -> None:
    found = [(1, 2), (500, 510), (600, 600), (690, 700)]
    assert id_ranges.newest_cluster(found, 100) == [(500, 510), (600, 600), (690, 700)]
    assert id_ranges.newest_cluster(found, 50) == [(690, 700)]
    assert id_ranges.newest_cluster([], 50) == []
