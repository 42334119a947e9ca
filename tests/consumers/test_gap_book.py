"""The book of gaps against its plain definition, which compares every gap with every other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consumers.gap_filler.gap_tracker import Change, GapTracker, _Tracked
from pipeline.database.ledger import IdGap
from venues import id_ranges

KEY = ("kraken", "BTC-USD")


def ids(*spans: tuple[int, int]) -> set[int]:
    return {number for first, last in spans for number in range(first, last + 1)}


class Plain(GapTracker):
    """The definition."""

    def _update(self, key: Any, gaps: list[IdGap], now: float, change: Change) -> None:
        before = self._known.get(key, [])
        here = ids(*((gap.first_id, gap.last_id) for gap in gaps))
        for known in before:
            gone = ids((known.gap.first_id, known.gap.last_id)) - here - ids(*self._explained[key])
            if known.reported:
                for first, last in id_ranges.of_ids(gone):
                    change.repaired.append(replace(known.gap, first_id=first, last_id=last))
        after = []
        for gap in gaps:
            span = ids((gap.first_id, gap.last_id))
            old = [known for known in before if span & ids((known.gap.first_id, known.gap.last_id))]
            known = _Tracked(gap, min((k.since for k in old), default=now), any(k.reported for k in old))
            if not known.reported and now - known.since >= self._reorder_s:
                known.reported = True
                change.opened.append(gap)
            after.append(known)
        self._known[key] = after
        if not after:
            for kept in (self._known, self._published, self._waiting, self._explained):
                kept.pop(key, None)


SPAN = st.tuples(st.integers(0, 30), st.integers(0, 6)).map(lambda pair: (pair[0], pair[0] + pair[1]))
SPANS = st.lists(SPAN, max_size=8)
LOOKS = st.lists(st.tuples(SPANS, SPANS, SPANS, st.integers(0, 40)), min_size=1, max_size=6)


@given(LOOKS, st.randoms(use_true_random=False))
def test_like_its_definition(looks: Any, rng: Any) -> None:
    """Prevents gaps that are told twice, never or as repaired though they were explained, and repairs that come too
    early or of ids on their way, when the book is made quicker."""
    book, plain, now = GapTracker(2.0, 60.0), Plain(2.0, 60.0), 0.0
    for missing, explained, published, seconds in looks:
        gaps = [IdGap(*KEY, first, last, first - 1, last + 1) for first, last in id_ranges.merged(missing)]
        rng.shuffle(gaps)  # the ledger gives the newest first, by time
        assert book.update(gaps, now) == plain.update(gaps, now)
        for one in (book, plain):
            one.published(KEY, published, now)
            for first, last in explained:
                one.unrepairable(IdGap(*KEY, first, last, None, None))
        due = plain.due(now)
        assert book.due(now) == due
        away = ids(*(span for span, _ in plain._published[KEY]))
        assert all(not away & ids((gap.first_id, gap.last_id)) for gap in due.get(KEY, []))
        now += seconds


def comparisons(count: int, work: Callable[[GapTracker, list[IdGap]], None]) -> int:
    """How often ids are compared while `work` is done on so many gaps."""
    made = 0

    class Counted(int):
        def _count(self, how: str, other: int) -> bool:
            nonlocal made
            made += 1
            return bool(getattr(int, how)(self, other))

        def __lt__(self, other: int) -> bool:
            return self._count("__lt__", other)

        def __le__(self, other: int) -> bool:
            return self._count("__le__", other)

        def __gt__(self, other: int) -> bool:
            return self._count("__gt__", other)

        def __ge__(self, other: int) -> bool:
            return self._count("__ge__", other)

    gaps = [IdGap(*KEY, Counted(2 * n), Counted(2 * n), None, None) for n in reversed(range(count))]
    book = GapTracker(2.0, 60.0)
    book.update(gaps, 0.0)
    made = 0
    work(book, gaps)
    return made


def test_ten_times_the_gaps_are_not_a_hundred_times_the_work() -> None:
    """Prevents thousands of gaps of one product from holding up the loop that writes the heads of all."""

    def work(book: GapTracker, gaps: list[IdGap]) -> None:
        book.update(gaps, 5.0)
        book.published(KEY, [(gap.first_id, gap.last_id) for gap in gaps[::2]], 5.0)
        for gap in gaps[::3]:
            book.unrepairable(gap)
        assert len(book.due(5.0)[KEY]) == len(gaps) // 2
        assert book.update(gaps[::4], 6.0).repaired

    few, many = comparisons(100, work), comparisons(1_000, work)
    assert few < many < 25 * few
