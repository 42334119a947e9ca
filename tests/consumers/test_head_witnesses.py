"""What the gap filler believes of a stream and of REST about a product's newest trade: nothing on one wrong word."""

from __future__ import annotations

from consumers.gap_filler.heads import ASK_EVERY_S
from consumers.gap_filler.product_head import LAG_KEPT_S, NEVER, REFUTED_AFTER_S, SETTLE_S, ProductHead


def test_rest_behind_the_stream_confirms_nothing() -> None:
    """Prevents a lagging answer from vouching for now."""
    known = ProductHead(1, 0, 0.0, "stream")
    known.report(100, "stream", 10.0)
    assert known.checked == 10.0
    known.report(95, "rest", 40.0)
    assert (known.newest_id, known.checked) == (100, 10.0)
    known.report(100, "stream", 50.0)  # the same again is no news
    assert known.checked == 10.0
    known.report(100, "rest", 60.0)
    assert known.checked == 30.0  # twenty seconds ago it was that much behind


def quiet_since(stream_until: float) -> ProductHead:
    """A product whose stream showed a trade a second until then."""
    known = ProductHead(1, 0, 0.0, "stream")
    for now in range(1, int(stream_until) + 1):
        known.report(now, "stream", float(now))
        known.settle(float(now))
    return known


def test_rest_that_was_seen_to_be_behind_does_not_vouch_for_now_when_it_has_caught_up() -> None:
    """Prevents "0 missing" up to now by an answer out of a cache of five minutes, in which the newest trades of a
    silent stream cannot be: it is taken for what was true five minutes before."""
    known = quiet_since(400.0)
    known.report(110, "rest", 401.0)  # it lacks what was shown from 111 on
    assert 280.0 <= known.lag_s(401.0) <= 291.0
    known.report(400, "rest", 700.0)  # all that is known, and still as late
    known.settle(700.0 + SETTLE_S)
    assert known.proven is not None
    assert known.proven <= 700.0 - 280.0
    known.report(400, "rest", 401.0 + LAG_KEPT_S)  # nobody has seen it behind since
    known.settle(401.0 + LAG_KEPT_S + SETTLE_S)
    assert known.proven == 401.0 + LAG_KEPT_S


def test_rest_is_no_further_behind_than_what_it_shows() -> None:
    """Prevents a product from being unknown for minutes after REST was behind for a moment."""
    known = quiet_since(400.0)
    known.report(110, "rest", 401.0)
    known.report(401, "stream", 410.0)
    known.report(401, "rest", 413.0)
    assert known.lag_s(413.0) == 3.0
    known.settle(413.0 + SETTLE_S)
    assert known.proven == 410.0


def test_a_venue_whose_rest_is_behind_for_two_products_is_behind_for_the_third() -> None:
    """Prevents a claim about a product whose own stream never showed how late REST is; one bad product proves
    nothing about the others."""
    known = quiet_since(30.0)
    known.report(30, "rest", 60.0, others_lag_s=300.0)
    known.settle(60.0 + SETTLE_S)
    assert known.proven == 30.0  # what the stream itself showed
    known.report(30, "rest", 75.0)
    known.settle(75.0 + SETTLE_S)
    assert known.proven == 75.0


def test_what_was_said_long_ago_is_not_said_now() -> None:
    """Prevents a claim about now by what lay about: a head that was held up on its way for minutes, or an answer of
    REST that nobody looked at because the database stood still."""
    known = quiet_since(30.0)
    for newest, witness, at in ((40, "stream", 40.0), (40, "rest", 50.0)):
        known.report(newest, witness, 300.0, at)
    known.settle(300.0 + SETTLE_S)
    assert (known.settled_id, known.proven, known.checked) == (40, 50.0, 50.0)
    assert known.due(300.0, ASK_EVERY_S), "the stream is quiet"


def test_an_id_for_which_nobody_vouches_is_missing_and_proves_nothing() -> None:
    known = ProductHead(1, 0, 0.0, "stream")
    known.report(100, "stream", 10.0, NEVER)
    known.settle(10.0 + SETTLE_S)
    assert (known.settled_id, known.proven, known.checked) == (100, None, None)
    assert known.due(10.0, ASK_EVERY_S)


def test_the_first_answer_after_a_silence_proves_nothing_until_it_is_counted() -> None:
    """Prevents "0 missing" about the ids of a long silence, in the seconds in which they count as on their way."""
    known = ProductHead(1, 100, 0.0, "rest", settled_id=100)
    known.settle(500.0)
    assert known.proven is None
    known.report(900, "rest", 500.0)
    known.settle(500.0 + SETTLE_S - 1)
    assert (known.settled_id, known.proven) == (100, None)
    known.settle(500.0 + SETTLE_S)
    assert (known.settled_id, known.proven) == (900, 500.0)


def test_an_id_that_only_the_stream_ever_showed_is_given_up() -> None:
    """Prevents one wrong frame from leaving a product incomplete for ever, and REST that is behind for a moment from
    taking a good id back."""
    known = ProductHead(1, 0, 0.0, "stream")
    known.report(100, "stream", 0.0)
    known.report(10**12, "stream", 1.0)
    known.settle(1.0 + SETTLE_S)
    assert known.settled_id == 10**12
    known.report(120, "rest", 300.0)
    known.report(130, "rest", 2.0 + REFUTED_AFTER_S)
    assert known.newest_id == 10**12
    known.report(140, "rest", 17.0 + REFUTED_AFTER_S)
    assert (known.newest_id, known.settled_id) == (140, 140)
    for at in range(8000, 11_000, 1000):
        known.report(150, "rest", at + 1.0)
        known.report(150 - 1, "rest", at + 900.0)
        known.report(150 - 1, "rest", at + 915.0)
        assert known.newest_id == 150


def wrong_answer(known: ProductHead, ahead: int, until: int = 3600) -> list[int]:
    """An hour of one trade in ten seconds; from the tenth minute on REST gives one wrong id in two answers. Returns the
    newest ids, second by second."""
    newest, given, found = known.newest_id, 0, []
    for now in range(1, until):
        newest += now % 10 == 0
        known.report(newest, "stream", float(now))
        if known.due(float(now), ASK_EVERY_S):
            known.asked_at = float(now)
            given += now > 600
            known.report(newest + ahead if given in (1, 3) and now > 600 else newest, "rest", float(now))
        known.settle(float(now))
        found.append(known.newest_id - newest)
    return found


def test_one_wrong_answer_of_rest_is_not_believed() -> None:
    """Prevents a row with a wrong id from making millions of ids missing, also if there is another one later."""
    known = ProductHead(1000, 999, 0.0, "stream")
    assert set(wrong_answer(known, 5_000_000)) == {0}
    known.report(9_000_000, "rest", 4000.0)
    known.report(9_000_005, "rest", 4015.0)  # after an outage of days: it says so again
    assert known.newest_id == 9_000_005


def test_a_wrong_answer_of_rest_that_was_believed_is_taken_back() -> None:
    """Prevents ids that do not exist from being missing for ever, restart or not, because REST once showed one."""
    known = ProductHead(1000, 999, 0.0, "stream")
    ahead = wrong_answer(known, 900_000)
    assert max(ahead) == 900_000
    assert set(ahead[2000:]) == {0}
    assert known.settled_id <= known.newest_id
    begun_again = ProductHead(1000, 5_000_000, -SETTLE_S, "rest", settled_id=5_000_000)
    for now in range(0, 900, 15):
        begun_again.report(1200, "rest", float(now))
        begun_again.settle(float(now))
    assert (begun_again.newest_id, begun_again.settled_id) == (1200, 1200)


def test_rest_is_asked_when_the_stream_is_quiet() -> None:
    """Prevents the second witness from being silent when it is needed, and from costing calls when it is not."""
    known = ProductHead(1, 0, 0.0, "stream")
    assert known.due(0.0, ASK_EVERY_S)
    known.asked_at = 0.0
    known.report(100, "stream", 14.0)
    assert not known.due(20.0, ASK_EVERY_S)
    assert known.due(30.0, ASK_EVERY_S)
