"""Nothing that REST says of a missing id is final on one look, and one odd row costs itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.core.errors import WrongAnswer
from schemas.records import TradeRow, TradesMessage
from venues.coinbase import parse as coinbase
from venues.kraken import parse as kraken
from venues.rest.date_clock import DateClock
from venues.rest.page import BadRow, Page
from venues.trade_walk import Filler

GOOD = '["100.5","1.0",1700000000.5,"b","l","",%d]'


def row(number: int) -> TradeRow:
    return TradeRow(number, 1_700_000_000_000_000 + number, "100.5", "1", "buy")


class Rest:
    """A venue whose pages are given."""

    venue, page_rows, calls_per_s, clock = "kraken", 1000, 1.0, DateClock()

    def __init__(self, *pages: Page) -> None:
        self.given = pages

    def pages(self, *_: Any) -> Iterator[Page]:
        yield from self.given

    def newest_trade(self, product_id: str) -> int:
        raise NotImplementedError

    first_id_at = newest_trade  # type: ignore[assignment]


class Topic:
    """Takes what is published."""

    topic = "trades/kraken.btc-usd"

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.findings: list[tuple[int, int, str]] = []

    def send(self, message: TradesMessage, **_: Any) -> bool:
        self.ids += [one.trade_id for one in message.trades]
        self.findings += [(one.first_id, one.last_id, one.reason) for one in message.holes]
        return True


def walk(rest: Rest, topic: Topic, *, confirm_s: float = 0.0, wanted: tuple[int, int] = (2, 4), looks: int = 1) -> Any:
    filler = Filler(rest, lambda _: topic, "repair", confirm_s)  # type: ignore[arg-type]
    return [filler.fill("BTC-USD", [wanted], None, None, budget_s=10) for _ in range(looks)][-1]


def test_absent_on_one_look_is_asked_again() -> None:
    """Prevents one incomplete answer from explaining trades away."""
    topic = Topic()
    filled = walk(Rest(Page([row(1), row(2), row(5)])), topic)
    assert (topic.ids, topic.findings, filled.waiting) == ([2], [], [(3, 4)])
    topic = Topic()
    walk(Rest(Page([row(1), row(2), row(5)])), topic, looks=2)
    assert topic.findings == [(3, 4, "venue_has_none")]
    topic = Topic()
    walk(Rest(Page([row(1), row(2), row(5)])), topic, looks=2, confirm_s=60)
    assert topic.findings == []


def test_a_bad_row_is_no_absent_trade_and_rejected_only_when_it_comes_twice() -> None:
    """Prevents a trade that exists from being called nonexistent, and a passing error from rejecting it."""
    odd = BadRow(3, "price", "zero", b"0")
    topic = Topic()
    filled = walk(Rest(Page([row(1), row(2), row(4), row(5)], [odd])), topic)
    assert (topic.findings, filled.waiting, filled.bad) == ([], [(3, 3)], [odd])
    topic = Topic()
    walk(Rest(Page([row(1), row(2), row(4), row(5)], [odd])), topic, looks=2)
    assert topic.findings == [(3, 3, "rejected")]


def test_a_row_that_is_bad_in_another_way_is_not_the_same_row() -> None:
    topic = Topic()
    pages = [Page([row(1), row(2), row(4), row(5)], [BadRow(3, "price", "", text)]) for text in (b"a", b"b")]
    filler = Filler(Rest(pages[0]), lambda _: topic, "repair", 0.0)  # type: ignore[arg-type, return-value]
    filler.fill("BTC-USD", [(3, 3)], None, None, budget_s=10)
    filler.source = Rest(pages[1])  # type: ignore[assignment]
    filler.fill("BTC-USD", [(3, 3)], None, None, budget_s=10)
    assert topic.findings == []


def test_a_row_without_a_readable_id_keeps_its_page_from_proving_anything() -> None:
    """Prevents the trade behind the unreadable row from being called nonexistent."""
    topic = Topic()
    walk(Rest(Page([row(1), row(2), row(5)], blurred=True)), topic, looks=3)
    assert (topic.ids, topic.findings) == ([2, 2, 2], [])


def test_what_no_cursor_leads_to_is_named_and_not_asked_for_ever() -> None:
    """Prevents endless asking for the rest of more trades in one nanosecond than a page of Kraken holds."""
    pages = Page([row(i) for i in range(1, 4)]), Page([row(i) for i in range(8, 12)])
    topic = Topic()
    filled = walk(Rest(*pages), topic, wanted=(2, 9), looks=2)
    assert topic.findings == [(4, 7, "unreachable")]
    assert filled.explained == [(4, 7)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('["NaN","1.0",1700000000.5,"b","l","",2]', "decimal"),
        ('["0.0","1.0",1700000000.5,"b","l","",2]', "price"),
        ('["-1","1.0",1700000000.5,"b","l","",2]', "price"),
        ('["1","1",1700000000000000.5,"b","l","",2]', "time"),
        ('["1","1",99999999999,"b","l","",2]', "time"),
        ('["1","1e-30",1700000000.5,"b","l","",2]', "quantity"),
        ('[null,"1.0",1700000000.5,"b","l","",2]', "decimal"),
        ('[[],{},"x",7,"l","",2]', "time"),
    ],
)
def test_one_odd_row_of_kraken_costs_itself(bad: str, reason: str) -> None:
    """Prevents one row from refusing a page of a thousand."""
    body = f'{{"error":[],"result":{{"XXBTZUSD":[{GOOD % 1},{bad},{GOOD % 3}],"last":"1700000000500000000"}}}}'
    page, _ = kraken.rest_trades(body.encode(), {"XXBTZUSD"})
    assert [one.trade_id for one in page.rows] == [1, 3]
    assert [(one.trade_id, one.reason) for one in page.bad] == [(2, reason)]
    assert (page.ids, page.blurred) == ([1, 2, 3], False)


def test_a_row_of_kraken_whose_id_cannot_be_read_blurs_the_page() -> None:
    for number in ("-5", str(1 << 63), '"x"', "null", "1.5"):
        body = (
            f'{{"error":[],"result":{{"XXBTZUSD":[{GOOD % 1},["1","1",1700000000.5,"b","l","",{number}]],"last":"1"}}}}'
        )
        page, _ = kraken.rest_trades(body.encode(), {"XXBTZUSD"})
        assert (page.ids, page.blurred) == ([1], True)


def test_one_odd_row_of_coinbase_costs_itself_and_another_format_the_page() -> None:
    good = '{"trade_id":1,"side":"sell","size":"1","price":"2","time":"2026-09-30T02:03:12.257184Z"}'
    odd = '{"trade_id":2,"side":"sell","size":"1","price":"abc","time":"2026-09-30T02:03:12Z"}'
    page = coinbase.rest_trades(f"[{odd},{good}]".encode())
    assert ([one.trade_id for one in page.rows], [one.trade_id for one in page.bad]) == ([1], [2])
    with pytest.raises(WrongAnswer):
        coinbase.rest_trades(b'[{"trade_id":1,"p":"2"},{"trade_id":2,"p":"2"}]')


def test_the_date_of_answers_tells_the_offset_and_a_clock_that_was_set_is_followed() -> None:
    """Prevents a wrong clock of ours from passing for the truth about the age of trades."""
    clock = DateClock()
    assert (clock.offset_us, clock.agrees) == (None, False)
    second = 1_000_000
    for at in (0, 300_000, 700_000):
        now = 1_700_000_000 * second + at
        clock.note("Tue, 14 Nov 2023 22:13:20 GMT", now, now + 20_000)
    assert clock.agrees
    assert abs(clock.offset_us or 0) < 300_000
    now = 1_700_000_000 * second - 31 * 86_400 * second
    clock.note("Tue, 14 Nov 2023 22:13:20 GMT", now, now + 20_000)
    assert not clock.agrees
    assert (clock.offset_us or 0) // (86_400 * second) in (30, 31)
    clock.note("whenever", 0, 1)
    clock.note(None, 0, 1)
