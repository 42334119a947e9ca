"""What one answer of REST proves: a time is never called proven on less than was seen."""

from __future__ import annotations

import pytest

from schemas.records import TradeRow
from venues.rest.page import BadRow, Page
from venues.trade_windows import SECOND_US, SHOWN_WITHIN_US, Compared, Recent, compare, lateness_us

START_S = 1_700_000_000
YOUNG_US = 3 * SECOND_US


def at(second: float) -> int:
    return int((START_S + second) * SECOND_US)


def answer(*seconds: int, now: float | None = 100, bad: tuple[int, ...] = (), blurred: bool = False) -> Recent:
    """Trades whose ids are their seconds."""
    rows = [TradeRow(second, at(second), "1", "1", "buy") for second in seconds]
    page = Page(rows, [BadRow(number, "price", "", b"") for number in bad], blurred)
    return Recent(page, None if now is None else at(now))


def compared(recent: Recent, *unknown: int, since: float = 0, newest: float | None = None) -> Compared:
    return compare(recent, set(unknown), at(since), None if newest is None else at(newest), YOUNG_US)


def test_an_answer_covers_what_lies_between_its_trades() -> None:
    """Prevents a proof before the oldest trade, where the answer may have been cut off, and in its own second."""
    assert compared(answer(10, 50, 99), newest=99.5) == Compared((at(11), at(99)), [], [])


def test_a_quiet_time_counts_once_rest_has_had_time_to_show_it() -> None:
    assert compared(answer(10, 20), newest=20.5).covered == (at(11), at(100) - SHOWN_WITHIN_US)
    assert compared(answer(10, 20, now=None), newest=20.5).covered == (at(11), at(20))


def test_rest_that_is_behind_the_stream_says_nothing_of_later() -> None:
    """Prevents a lagging REST from proving a time in which the stream may have lost something."""
    assert compared(answer(10, 20), newest=60).covered == (at(11), at(20))


def test_rest_that_was_late_proves_a_quiet_time_as_much_later() -> None:
    """Prevents a proof up to now by a REST that is minutes behind, once it has caught up with a silent stream."""
    late = lateness_us(answer(10, 20, now=400), 0, at(60))  # it lacks the trade of second 60
    assert late == 340 * SECOND_US
    caught_up = answer(10, 20, 60, 100, now=430)
    late = lateness_us(caught_up, late, None)
    assert late == 330 * SECOND_US  # it shows what is so old
    assert compare(caught_up, set(), 0, at(100), YOUNG_US, late).covered == (at(11), at(100))
    assert compare(caught_up, set(), 0, at(100), YOUNG_US).covered == (at(11), at(415))
    assert lateness_us(answer(10, 428, now=430), late, None) == 2 * SECOND_US
    assert lateness_us(answer(now=430), late, None) == late  # which shows nothing
    assert lateness_us(answer(10, now=None), late, at(60)) == late


def test_what_is_missing_is_no_part_of_the_proof() -> None:
    result = compared(answer(10, 50, 60, 99), 50, 60, newest=99)
    assert [row.trade_id for row in result.missing] == [50, 60]
    assert result.lost == [(at(50), at(51)), (at(60), at(61))]
    assert result.covered == (at(11), at(99))  # the ledger takes the lost seconds out of it


def test_what_may_be_on_its_way_is_neither_missing_nor_proven() -> None:
    result = compared(answer(10, 98, 99), 98, 99, newest=60)
    assert (result.missing, result.lost, result.covered) == ([], [], (at(11), at(98)))


def test_what_was_not_asked_for_is_not_repaired() -> None:
    """Prevents the hour before the live stream from being loaded by a question for its first second."""
    result = compared(answer(10, 20, 50, 99), 10, 20, 50, since=50.5, newest=99)
    assert [row.trade_id for row in result.missing] == [50]


@pytest.mark.parametrize(
    "recent", [answer(), answer(10, 99, bad=(50,)), answer(10, 99, blurred=True), answer(99, now=None)]
)
def test_an_answer_that_is_not_whole_proves_nothing(recent: Recent) -> None:
    assert compared(recent, 50).covered is None


def test_a_bad_row_whose_trade_is_stored_does_no_harm() -> None:
    assert compared(answer(10, 99, bad=(50,)), newest=99).covered == (at(11), at(99))
