"""When a venue's candles are final: by its own time, and never by one frame or one candle with a wrong one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from schemas.records import CandleRow
from venues import timed_candles
from venues.events import CandleFrame
from venues.timed_candles import AHEAD_US, TimedCandles

HOUR_US = 3_600_000_000


START_S = 1786279500


class Feed:
    """A stream on which a frame arrives every half second; `wrong_us`: what our clock is ahead of the venue's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, wrong_us: int = 0) -> None:
        self.at_us, self.wrong_us = START_S * 1_000_000, wrong_us
        self.candles = TimedCandles(300)
        monkeypatch.setattr(timed_candles, "time", SimpleNamespace(monotonic_ns=lambda: (self.at_us - HOUR_US) * 1000))
        monkeypatch.setattr(timed_candles, "now_us", lambda: self.at_us + self.wrong_us)

    def beat(self, ahead_us: int = 0, times: int = 1) -> list[CandleFrame]:
        return [one for _ in range(times) for one in self._said(ahead_us)]

    def candle(self, start_s: int, close: str = "1.5", ahead_us: int = 0) -> list[CandleFrame]:
        row = CandleRow((START_S + start_s) * 1_000_000, open="1", high="9", low="1", close=close, volume="3")
        return self._said(ahead_us, CandleFrame("BTC-USD", None, 300, [row]))

    def _said(self, ahead_us: int, *frames: CandleFrame) -> list[CandleFrame]:
        self.at_us += 500_000
        said = self.candles.read(frames, self.at_us + ahead_us)
        return [one for one in said if isinstance(one, CandleFrame)]


def rows_of(frames: list[CandleFrame]) -> list[tuple[int, str, bool]]:
    return [(row.bucket_us // 1_000_000 - START_S, row.close, row.final) for one in frames for row in one.rows]


@pytest.mark.parametrize("wrong_us", [0, -30 * HOUR_US, 30 * HOUR_US])
@pytest.mark.parametrize("before", [0, 1, 40])
def test_one_frame_with_a_wrong_time_settles_nothing(
    monkeypatch: pytest.MonkeyPatch, before: int, wrong_us: int
) -> None:
    """Prevents a running candle that is final for good, because some frame said that it is a day later; whatever our
    own clock says, and without keeping candles from being final in their time."""
    feed = Feed(monkeypatch, wrong_us)
    feed.beat(times=before)
    assert rows_of(feed.candle(0)) == [(0, "1.5", False)]
    for ahead_us in (20 * HOUR_US, 340_000_000, -20 * HOUR_US):
        assert feed.beat(ahead_us) == []
    said = feed.candle(0, "9", ahead_us=20 * HOUR_US)
    assert rows_of(said) == [(0, "9", False)]
    if wrong_us <= 0:
        assert (said[0].as_of_us or 0) <= feed.at_us + AHEAD_US
    assert rows_of(feed.beat(times=620)) == [(0, "9", True)]


@pytest.mark.parametrize("wrong_us", [0, -30 * HOUR_US, 30 * HOUR_US])
def test_a_candle_that_has_not_begun_makes_no_other_final(monkeypatch: pytest.MonkeyPatch, wrong_us: int) -> None:
    """Prevents one wrong start from making each later state of the running candle final."""
    feed = Feed(monkeypatch, wrong_us)
    feed.beat(times=10)
    assert feed.candle(72_000) == []
    assert rows_of(feed.candle(0, "2")) == [(0, "2", False)]
    assert rows_of(feed.candle(0, "3")) == [(0, "3", False)]
    feed.beat(times=590)
    assert rows_of(feed.candle(300)) == [(0, "3", True), (300, "1.5", False)]


@pytest.mark.parametrize("by_us", [-300_000_000, 2 * HOUR_US])
def test_a_venue_whose_clock_is_set_is_believed_after_a_while(monkeypatch: pytest.MonkeyPatch, by_us: int) -> None:
    """Prevents candles from never being final again once the venue has set its clock."""
    feed = Feed(monkeypatch)
    feed.beat(times=200)
    assert rows_of(feed.candle(0)) == [(0, "1.5", False)]
    feed.at_us += 600_000_000 - 200 * 500_000
    feed.beat(by_us, times=200)
    assert rows_of(feed.candle(600 + by_us // 1_000_000, ahead_us=by_us))[-1][2] is False
    assert rows_of(feed.beat(by_us, times=700))[-1][2]
