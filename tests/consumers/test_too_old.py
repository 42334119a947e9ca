"""What is recorded as too old to be fetched: never by one answer of a venue."""

from __future__ import annotations

import types
from typing import Any, cast

import pytest

from consumers.gap_filler.explanations import Explanations
from consumers.gap_filler.gap_tracker import GapTracker
from consumers.gap_filler.repair import GapFiller
from consumers.trades import Trades
from pipeline.core.runtime import now_us
from pipeline.core.times import DAY_US
from pipeline.database.ledger import Head, Ledger
from tests.messages import received, store, trade, trades_record
from venues.adapter import Proof
from venues.trade_walk import Filler

KEY = ("kraken", "BTC-USD")


class Venue:
    """A source that says which id was the first of the last thirty days."""

    venue, title, calls_per_s = "kraken", "Kraken", 1.0
    clock = types.SimpleNamespace(agrees=True)

    def __init__(self, first_id: int) -> None:
        self.first_id = first_id

    def newest_trade(self, _product: str) -> int:
        return 22

    def first_id_at(self, _product: str, _at_us: int) -> int:
        return self.first_id


def gap_filler(ledger: Ledger) -> Any:
    """The part of a gap filler that decides, with the real ledger; confirmed is what was seen twice."""
    one: Any = object.__new__(GapFiller)
    one._heads = types.SimpleNamespace(newest=lambda _key: 22)
    one._settings = types.SimpleNamespace(max_age_days=30, confirm_seconds=0.0)
    one._ledger = lambda: ledger
    one._tracker = GapTracker(1.0, 60.0)
    one._explanations = Explanations(lambda *_: None)
    return one


def looked(conn: Any, ledger: Ledger, one: Any, filler: Filler, sent: list[Any]) -> tuple[Any, ...]:
    """What is to be fetched after another look, and what is claimed then."""
    wanted = one._leave_out_old(filler, KEY, ledger.trade_gaps())
    for message in sent:
        store(Trades(), conn, [received("trades", message)])
    sent.clear()
    one._explanations.sign(ledger)
    return wanted, *conn.execute("SELECT missing, explained FROM completeness").fetchone()


@pytest.mark.parametrize(
    ("first_id", "first_look", "second_look"),
    [
        (23, ([(11, 20)], 10, 0), ([(11, 20)], 10, 0)),  # what a venue without an answer says: nothing that young
        (16, ([(16, 20)], 10, 0), ([(16, 20)], 5, 5)),
        (11, ([(11, 20)], 10, 0), ([(11, 20)], 10, 0)),
    ],
)
def test_one_answer_explains_nothing(
    conn: Any, first_id: int, first_look: tuple[Any, ...], second_look: tuple[Any, ...]
) -> None:
    """Prevents trades that the venue has, and that are never fetched because it once answered without any."""
    now = now_us()
    rows = [trade(number, now - 40 * DAY_US + number) for number in range(1, 11)]
    rows += [trade(21, now - 19 * DAY_US), trade(22, now - 1000)]
    store(Trades(), conn, [received("trades", trades_record(rows))])
    ledger = Ledger(conn)
    ledger.write_heads([Head(*KEY, "crypto", 1, 22, 22, 20.0, 0.0, "rest", Proof.IDS)])
    sent: list[Any] = []
    publisher = types.SimpleNamespace(topic="t", send=lambda message, **_: sent.append(message) or True)
    filler = Filler(cast(Any, Venue(first_id)), lambda _product: cast(Any, publisher), "repair", 0.0)
    one = gap_filler(ledger)
    assert looked(conn, ledger, one, filler, sent) == first_look
    assert looked(conn, ledger, one, filler, sent) == second_look
