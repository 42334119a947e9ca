"""A position: a text that survives being kept, and says what was given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import WrongUse
from pipeline.stream.position import (
    MOST_RANGES,
    Follower,
    Place,
    PositionLost,
    SeenIds,
    places_of,
    text_of_places,
)
from tests.messages import T0_US


@given(st.lists(st.integers(1, 60)))
def test_an_id_is_new_once(ids: list[int]) -> None:
    """Prevents a trade that comes twice, or one that is never given."""
    seen, known = SeenIds(), set[int]()
    for one in ids:
        assert seen.add(one) == (one not in known)
        known.add(one)
    assert {one for first, last in seen.ranges for one in range(first, last + 1)} == known
    assert all(a[1] + 1 < b[0] for a, b in zip(seen.ranges, seen.ranges[1:], strict=False))


def test_ids_are_bounded_and_the_newest_are_kept() -> None:
    """Prevents a position that grows beyond what a header of HTTP may have."""
    seen = SeenIds()
    for one in range(0, 10_000, 2):
        seen.add(10**12 + one)
    assert len(seen.ranges) == MOST_RANGES
    assert not seen.add(10**12 + 9_998)
    places = {"trades": Place(10**13, (10**9, 10**9, 999), tuple(seen.ranges))}
    assert len(text_of_places(places)) < 3_000


def test_a_position_survives_being_kept() -> None:
    places = {"trades": Place(5, (1, 2, -1), ((1, 9),)), "candles_1m": Place(7, closed_us=T0_US), "gaps": Place(1)}
    assert places_of(text_of_places(places)) == places


@pytest.mark.parametrize(
    "text",
    [
        *("x", "[]", '{"trades": 1}', '{"trades": {"sent_ms": "a"}}', "{" * 5000),
        *('{"trades": {"sent_ms": 1, "ids": [[5, 4]]}}', '{"trades": {"sent_ms": 1, "ids": [[5, 6], [1, 2]]}}'),
        *(f'{{"candles_1m": {{"sent_ms": 1, "closed_us": {at}}}}}' for at in (1, -60_000_000, T0_US + 1, 10**17)),
    ],
)
def test_what_is_no_position_is_refused(text: str) -> None:
    """Prevents trades that are withheld, and a list of all minutes since 1970, 1 GB for 50 characters over HTTP."""
    with pytest.raises(WrongUse, match="is not a valid position"):
        places_of(text)


def test_a_message_that_is_gone_is_not_passed_over() -> None:
    """Prevents that a reader who was away longer than the topic keeps its messages is told nothing of it."""
    follower = Follower(0, Place(1_000, (5, 0, -1)))
    assert not follower.is_new((4, 9, -1), 900)
    with pytest.raises(PositionLost):
        follower.is_new((6, 0, -1), 1_100)
    there = Follower(0, Place(1_000, (5, 0, -1)))
    assert not there.is_new((5, 0, -1), 1_000)
    assert there.is_new((6, 0, -1), 1_100)
