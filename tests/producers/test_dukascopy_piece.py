"""A piece of a load ends with a day, and its hours come by time: else days do not go straight into the archive."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.core.errors import WrongAnswer
from pipeline.core.times import DAY_US, HOUR_US
from producers.dukascopy import piece
from producers.dukascopy.plan import Plan


def hours_of(plan: Plan) -> list[int]:
    """The hours that a piece takes up."""
    means, job = SimpleNamespace(feed=None, stop=threading.Event()), SimpleNamespace(error=None)
    made = piece.Piece(cast(Any, means), cast(Any, job), plan, {}, cast(Any, None), cast(Any, None))
    found = []
    while (item := made._next()) is not None:
        found.append(item[0] // HOUR_US)
        made._busy -= 1
    return found


def test_a_piece_whose_time_is_over_finishes_the_day_but_not_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piece, "PIECE_S", 0.0)
    plan = Plan(ask=[DAY_US - 2 * HOUR_US, DAY_US - HOUR_US, DAY_US, DAY_US + HOUR_US])
    assert hours_of(plan) == [22, 23]
    assert hours_of(Plan(ask=[DAY_US])) == []
    monkeypatch.setattr(piece, "MORE_S", 0.0)
    assert hours_of(plan) == []


def test_a_finished_hour_was_fetched_after_its_end() -> None:
    """Prevents half an hour of quotes as the whole, out of a cache that kept the answer about the running hour."""
    found = SimpleNamespace(status="ticks", fetched_at_us=HOUR_US + HOUR_US // 2)
    feed = SimpleNamespace(free=False, hour=lambda *_, **__: found)
    means = SimpleNamespace(feed=feed, stop=threading.Event())
    job = SimpleNamespace(error=None, answered=0, instrument=None)
    made = piece.Piece(cast(Any, means), cast(Any, job), Plan(), {}, cast(Any, None), cast(Any, None))
    with pytest.raises(WrongAnswer, match="before the hour had ended"):
        made._fetch(HOUR_US)


def test_closed_hours_come_in_their_place() -> None:
    plan = Plan(ask=[HOUR_US, 3 * HOUR_US], closed=[2 * HOUR_US, 4 * HOUR_US], running=[0])
    assert hours_of(plan) == [1, 2, 3, 4, 0]
