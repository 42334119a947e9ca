"""Silence of one product: no false alarm, no silence that stays unnoticed, no storm of reconnects."""

from __future__ import annotations

import random
from itertools import pairwise

from producers.live.backoff import CAP_S, CAP_WITH_GAPS_S, Backoff
from producers.live.staleness import LONGEST_S, Due, ProductClock


def busy(now: float = 0.0) -> ProductClock:
    """A product with a trade each second up to `now` + 100."""
    clock = ProductClock(15.0, now)
    for second in range(1, 101):
        clock.data(second, now + second)
    return clock


def test_usual_silence_needs_no_question() -> None:
    clock = busy()
    assert clock.due(114.0) is Due.NOTHING
    assert clock.due(115.1) is Due.ASK
    assert clock.due(130.0) is Due.NOTHING  # asked once, not again before the answer


def test_a_rarely_traded_product_is_given_its_own_time() -> None:
    clock = ProductClock(15.0, 0.0)
    for number in range(1, 30):
        clock.data(number, number * 30.0)
    assert clock.due(29 * 30.0 + 200.0) is Due.NOTHING
    assert clock.due(29 * 30.0 + 301.0) is Due.ASK


def test_a_snapshot_teaches_what_is_usual_without_being_taken_for_it() -> None:
    clock = ProductClock(15.0, 0.0)
    clock.learn(40.0)
    clock.data(50, 0.1, snapshot=True)
    assert clock.due(300.0) is Due.NOTHING
    assert clock.due(401.0) is Due.ASK


def test_a_quiet_market_is_said_once_and_asked_after_less_and_less() -> None:
    clock = busy()
    assert clock.due(116.0) is Due.ASK
    assert clock.answered(100, 117.0)
    assert clock.quiet
    assert clock.due(117.0 + 29.0) is Due.NOTHING
    assert clock.due(117.0 + 31.0) is Due.ASK
    assert not clock.answered(100, 150.0)
    now = 150.0
    for _ in range(20):
        now += LONGEST_S + 1
        if clock.due(now) is Due.ASK:
            clock.answered(100, now)
    assert clock.usual_s() == LONGEST_S
    clock.data(101, now)
    assert not clock.quiet
    assert clock.usual_s() < LONGEST_S


def test_a_moved_market_leads_to_resubscribing_then_reconnecting() -> None:
    clock = busy()
    assert clock.due(116.0) is Due.ASK
    assert not clock.answered(120, 116.5)
    assert clock.due(117.0) is Due.NOTHING  # what is on its way may still come
    assert not clock.stale
    assert clock.due(119.0) is Due.RESUBSCRIBE
    assert clock.stale
    assert clock.due(119.0 + 16.0) is Due.ASK
    clock.answered(130, 136.0)
    assert clock.due(139.0) is Due.NOTHING  # each attempt is given twice the time of the one before
    assert clock.due(155.0) is Due.ASK  # but REST is asked on: nothing else says what is missing
    clock.answered(140, 155.0)
    assert clock.due(158.0) is Due.RESUBSCRIBE
    acted, now = [158.0], 158.0
    while now < 158.0 + 3600.0:
        now += 1.0
        due = clock.due(now)
        if due is Due.ASK:
            clock.answered(150, now)
        elif due is Due.RECONNECT:
            acted.append(now)
    pauses = [b - a for a, b in pairwise(acted)]
    assert 60.0 <= pauses[0] < pauses[1] < pauses[2]
    assert pauses[-1] >= LONGEST_S
    assert len(acted) < 12
    clock.opened(now)
    assert clock.stale
    assert clock.data(151, now + 3.0)
    assert not clock.stale


def test_a_dead_stream_is_noticed_within_its_longest_patience() -> None:
    """A pair with a trade in five minutes would otherwise hide the end of its stream for an hour."""
    clock = ProductClock(15.0, 0.0, longest_s=40.0)
    for number in range(1, 10):
        clock.data(number, number * 300.0)
    assert clock.due(9 * 300.0 + 41.0) is Due.ASK
    clock.answered(9, 9 * 300.0 + 42.0)
    assert clock.quiet
    assert clock.due(9 * 300.0 + 42.0 + 41.0) is Due.ASK


def test_a_trade_in_flight_is_no_stale_product() -> None:
    clock = busy()
    assert clock.due(116.0) is Due.ASK
    clock.answered(101, 116.5)
    clock.data(101, 117.0)
    assert clock.due(119.0) is Due.NOTHING
    assert not clock.stale


def test_a_subscription_that_never_gave_anything_is_noticed() -> None:
    clock = ProductClock(15.0, 0.0)
    assert clock.due(16.0) is Due.ASK
    clock.answered(5, 16.5)
    assert clock.due(19.0) is Due.RESUBSCRIBE


def test_rest_that_fails_is_asked_again_later() -> None:
    clock = busy()
    assert clock.due(116.0) is Due.ASK
    assert not clock.answered(None, 120.0)
    assert clock.due(134.0) is Due.NOTHING
    assert clock.due(136.0) is Due.ASK


def test_backoff_grows_to_its_cap_and_stays_random() -> None:
    backoff = Backoff(random.Random(1))
    delays = [backoff.next(gaps_open=False) for _ in range(12)]
    assert 0.5 <= delays[0] <= 1.0
    assert all(CAP_S / 2 <= delay <= CAP_S for delay in delays[6:])
    assert len(set(delays)) == len(delays)
    assert all(backoff.next(gaps_open=True) <= CAP_WITH_GAPS_S for _ in range(20))


def test_a_connection_that_gives_data_and_dies_at_once_does_not_reset_the_backoff() -> None:
    """150 connects in 10 minutes get an address banned."""
    backoff = Backoff(random.Random(1))
    for _ in range(8):
        backoff.next(gaps_open=False)
        backoff.lived(5.0)
    assert backoff.next(gaps_open=False) >= CAP_S / 2
    backoff.lived(31.0)
    assert backoff.next(gaps_open=False) <= 1.0
