"""What the venue is known to have, and how far its clock is from ours: never from one wrong word."""

from __future__ import annotations

import random
from contextlib import suppress
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.core.errors import Unavailable
from pipeline.core.products import ID_JUMP
from producers.live import watch
from producers.live.heads import SUPPORT, Head
from venues.venue_clock import BUCKETS, VenueClock

S = 1_000_000


def known(low: int = 1000, high: int = 1050) -> Head:
    head = Head()
    assert head.streamed(list(range(low, high + 1)), 1) == []
    return head


def test_a_stream_moves_its_head() -> None:
    head = known()
    assert (head.from_id, head.newest_id) == (1000, 1050)
    assert head.streamed([1051, 1052], 2) == []
    assert (head.from_id, head.newest_id, head.said_us) == (1000, 1052, 2)


def test_rest_is_no_word_of_the_stream() -> None:
    """Prevents a stale answer of REST, asked because the stream is silent, from reaching the gap filler as if the
    stream had shown it now."""
    head = known()
    assert head.asked(1060, 2)
    assert head.streamed([1051], 3) == []
    assert (head.newest_id, head.said_us) == (1060, 1)
    head.streamed([1060], 4)
    assert head.said_us == 4
    head = Head()
    assert head.asked(1060, 2) or head.asked(1060, 2)
    assert (head.newest_id, head.said_us) == (1060, 0)


def test_one_absurd_id_does_not_poison_the_head() -> None:
    """All ids up to it would be missing for ever."""
    head = known()
    for absurd in (1 << 61, 10**15):
        assert head.streamed([1051, absurd], 2) == [absurd]
    assert head.newest_id == 1051
    head.streamed([5], 3)
    assert head.newest_id == 1051
    far = known(10**9, 10**9 + 50)
    assert far.streamed([5, 10**9 + 51], 2) == [5]
    assert far.from_id == 10**9


def test_an_absurd_id_in_the_first_frame_is_outvoted() -> None:
    head = Head()
    assert head.streamed([1 << 61, *range(1000, 1050)], 1) == [1 << 61]
    assert (head.from_id, head.newest_id) == (1000, 1049)


def test_a_real_jump_is_believed_when_rest_says_so_too() -> None:
    head = known()
    later = 1050 + 5 * ID_JUMP  # an outage of days
    assert head.streamed([later], 2) == [later]
    assert head.asked(later + 3, 3)
    assert (head.from_id, head.newest_id) == (1000, later + 3)


def test_rest_alone_is_not_believed_at_once_either() -> None:
    head = known()
    assert not head.asked(1 << 61, 2)
    assert head.newest_id == 1050
    assert head.asked(1060, 3)
    assert head.newest_id == 1060
    assert not head.asked(10**12, 4)
    assert head.asked(10**12 + 5, 5)  # asked again, it says the same


def test_a_first_id_that_was_wrong_is_given_up() -> None:
    """A stream that began with one wrong trade and no snapshot."""
    head = Head()
    head.streamed([1 << 60], 1)
    assert head.support < SUPPORT  # so nothing is told
    assert head.streamed([1000], 2) == [1000]
    assert head.asked(1001, 3)
    assert (head.from_id, head.newest_id) == (1000, 1001)


class Market:
    """A venue with one trade a second, watched by a producer; REST is some trades behind."""

    products, rest_per_s, quiet_s, watches_trades = ("BTC-USD",), 1.0, 10.0, True
    name, spaces = "kraken", MappingProxyType({"trades": "trade"})

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.newest, self.rest, self.asked = 0.0, 1000, True, 0
        self.head, self.streamed = Head(), True
        subscribed = SimpleNamespace(is_pending=lambda *_: False, resubscribe=lambda *_: None)
        monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(watch, "now_us", lambda: int(self.now * S))
        self.watch = watch.Watch(cast(Any, self), cast(Any, subscribed), {"BTC-USD": self.head})
        monkeypatch.setattr(self.watch, "_start_request", self.watch._request_newest)
        self.clock = self.watch.clocks["BTC-USD"]

    def newest_trade(self, _product: str) -> int:
        self.asked += 1
        if not self.rest:
            raise Unavailable("REST is down")
        return self.newest - 3

    def show(self, trade_id: int) -> None:
        self.head.streamed([trade_id], int(self.now * S))
        self.clock.data(trade_id, self.now)

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            self.newest += 1
            if self.streamed:
                self.show(self.newest)
            with suppress(Unavailable):
                self.watch.poll(self.now)


def test_one_id_that_is_too_high_is_given_up_and_a_dead_stream_still_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a head that is wrong for as long as the producer runs, and trades that are missing for as long."""
    market = Market(monkeypatch)
    market.run(60)
    assert market.asked == 0
    market.show(market.newest + 900_000)
    market.run(420)
    assert market.asked <= 8
    assert (market.head.newest_id, market.clock.last_id) == (market.newest, market.newest)
    market.run(3600)
    assert market.asked <= 8
    market.streamed = False
    market.show(market.newest + 900_000)
    market.run(900)
    assert market.clock.stale


def test_rest_that_is_down_gives_no_id_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents an id from being given up because nobody answers, and a question with every look."""
    market = Market(monkeypatch)
    market.run(60)
    market.rest = False
    market.show(high := market.newest + 900_000)
    market.run(600)
    assert market.head.newest_id == high
    assert market.asked <= 10


def test_rest_behind_a_stream_that_goes_on_gives_no_id_up() -> None:
    """Prevents a head that falls back to what a cache of the venue has."""
    head = known()
    for second in range(0, 3600, 30):
        head.streamed([1051 + second], second * S)
        assert head.asked(1050, second * S)
        assert head.newest_id == 1051 + second
        assert not head.doubtful(second * S)


def measured(offset_us: int, seconds: int, lies: float = 0.0) -> VenueClock:
    clock, chance = VenueClock(), random.Random(1)
    for second in range(seconds):
        for tenth in range(10):
            now = second * S + tenth * S // 10
            delay = chance.randint(20_000, 400_000)
            lie = chance.choice((10**15, -(10**15))) if chance.random() < lies / 10 else 0
            clock.seen(now + offset_us - delay + lie, now)
    return clock


def test_the_offset_is_that_of_the_shortest_way() -> None:
    for offset_us in (0, 90 * S, -120 * S):
        found = measured(offset_us, 2 * BUCKETS).offset_us
        assert found is not None
        assert abs(found - offset_us) < S // 10


def test_single_frames_with_a_wrong_time_do_not_move_it() -> None:
    found = measured(0, 2 * BUCKETS, lies=0.1).offset_us
    assert found is not None
    assert abs(found) < S // 2


def test_an_offset_is_said_once_and_when_it_is_over() -> None:
    clock = measured(90 * S, BUCKETS)
    assert clock.changed()
    assert not clock.changed()
    for second in range(BUCKETS, 4 * BUCKETS):
        clock.seen(second * S, second * S)
    assert clock.changed()
    assert not clock.changed()
