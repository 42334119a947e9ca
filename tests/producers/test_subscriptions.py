"""What is asked of a venue, and that one product which is not to be had costs the others nothing."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

from pipeline.core.errors import Unavailable
from pipeline.core.log import get_logger
from producers.live.renewals import CAP_S
from producers.live.subscriptions import ACKNOWLEDGE_S, NO_ANSWER_S, Subscriptions
from venues.events import Acknowledged, Resubscribe, SubscriptionRefused, VenueEvent


class Asked:
    """A venue that keeps what it was asked."""

    name = "kraken"
    url = "ws://"
    frame_timeout_s = quiet_s = 10.0
    rest_per_s = 1.0
    watches_trades = True
    channels = ("trade", "ticker")
    spaces = {"trades": "trade", "tickers": "ticker"}  # noqa: RUF012

    def __init__(self, *products: str, per_text: int = 50, per_s: float = 4.0) -> None:
        self.products, self.products_per_text, self.messages_per_s = products, per_text, per_s

    def opened(self) -> list[str]:
        return []

    def subscribe(self, channel: str, products: Any, request: int) -> str:
        return json.dumps(["+", channel, list(products), request])

    def unsubscribe(self, channel: str, products: Any, request: int) -> str:
        return json.dumps(["-", channel, list(products), request])

    def read(self, frame: bytes) -> list[VenueEvent]:
        return []

    def newest_trade(self, product_id: str) -> int:
        return 0


class Life:
    """Subscriptions over time: what was sent and said."""

    def __init__(self, *products: str, **venue: Any) -> None:
        self.said: list[str] = []
        self.now = 0.0
        self.subscriptions = Subscriptions(
            Asked(*products, **venue), lambda status, **_: self.said.append(status), get_logger()
        )
        self.subscriptions.opened(0.0)

    def until(self, end: float) -> list[list[Any]]:
        """Go on to this time; what was sent meanwhile."""
        sent: list[list[Any]] = []
        while self.now < end:
            sent += [json.loads(text) for text in self.subscriptions.messages(0.25, self.now)]
            self.subscriptions.poll(self.now)
            self.now += 0.25
        return sent

    def acknowledge(self, *products: str, channel: str | None = None) -> None:
        for product in products:
            self.subscriptions.acknowledged(Acknowledged(channel, product))


def test_the_deadline_counts_from_the_sending() -> None:
    """From 11 products on, the pace at which a venue lets us send was longer than the time for the answer."""
    names = [f"P{number}-USD" for number in range(60)]
    life = Life(*names, per_text=1)
    sent = life.until(ACKNOWLEDGE_S - 1)
    assert len(sent) < 60
    for kind, channel, products, _ in sent:
        assert kind == "+"
        life.acknowledge(*products, channel=channel)
    while sent := life.until(life.now + 5):
        assert all(kind == "+" for kind, *_ in sent)
        for _, channel, products, _ in sent:
            life.acknowledge(*products, channel=channel)
    assert life.said == ["subscribed"]
    assert not life.subscriptions.problems


def test_only_the_channel_that_is_missing_is_asked_for_again() -> None:
    life = Life("BTC-USD", "ETH-USD", "SOL-USD")
    assert len(life.until(2)) == 2
    life.acknowledge("BTC-USD", "ETH-USD")
    life.acknowledge("SOL-USD", channel="trade")
    again = life.until(ACKNOWLEDGE_S + 2)
    assert [one[:3] for one in again] == [["+", "ticker", ["SOL-USD"]]]
    assert life.subscriptions.problem_of("SOL-USD") is None


def test_an_ignored_product_is_asked_for_less_and_less_and_ends_no_connection() -> None:
    life = Life("BTC-USD", "SOL-USD")
    life.until(2)
    life.acknowledge("BTC-USD")
    sent = life.until(3600)
    problem = life.subscriptions.problem_of("SOL-USD")
    assert problem is not None
    assert problem.state == "unanswered"
    assert (life.said[0], life.said[-1], life.said.count("subscribed")) == ("unacknowledged", "subscribed", 1)
    assert all(products == ["SOL-USD"] for _, _, products, _ in sent)
    assert 10 < len(sent) < 30
    life.acknowledge("SOL-USD")
    assert life.subscriptions.problem_of("SOL-USD") is None


def test_a_refusal_without_a_name_is_found_by_asking_for_each_alone() -> None:
    life = Life("BTC-USD", "SOL-USD")
    first = life.until(2)
    for *_, request in first:
        life.subscriptions.refused(SubscriptionRefused(None, None, "no", request), life.now)
    assert not life.subscriptions.problems
    alone = life.until(ACKNOWLEDGE_S + 4)
    assert sorted((channel, products[0]) for _, channel, products, _ in alone) == [
        ("ticker", "BTC-USD"),
        ("ticker", "SOL-USD"),
        ("trade", "BTC-USD"),
        ("trade", "SOL-USD"),
    ]
    for _, channel, products, request in alone:
        if products == ["SOL-USD"]:
            life.subscriptions.refused(SubscriptionRefused(None, None, "no", request), life.now)
        else:
            life.acknowledge(*products, channel=channel)
    assert {key[1] for key in life.subscriptions.problems} == {"SOL-USD"}
    assert life.said[-1] == "subscribed"


def test_a_venue_that_answers_to_nothing_is_left_later_each_time() -> None:
    life = Life("BTC-USD")
    pauses = []
    for _ in range(4):
        began = life.now
        life.subscriptions.opened(began)
        with pytest.raises(Unavailable):
            life.until(began + 3600)
        pauses.append(life.now - began)
    assert pauses[0] >= NO_ANSWER_S
    assert all(b > 1.5 * a for a, b in pairwise(pauses))


def test_data_are_an_acknowledgement() -> None:
    life = Life("BTC-USD")
    life.until(2)
    life.subscriptions.data("trade", "BTC-USD")
    life.subscriptions.data("ticker", "BTC-USD")
    assert life.said == ["subscribed"]
    assert life.until(100) == []


def test_a_refusal_of_what_already_runs_refuses_nothing() -> None:
    """A complaint that names a product is not always about its subscription."""
    life = Life("BTC-USD")
    life.until(2)
    life.acknowledge("BTC-USD")
    life.subscriptions.refused(SubscriptionRefused(None, "BTC-USD", "slow down"), life.now)
    life.subscriptions.refused(SubscriptionRefused(None, "XYZ-USD", "unknown"), life.now)
    assert not life.subscriptions.problems


def test_another_name_is_matched_with_what_was_asked() -> None:
    life = Life("BTC-USDC", "ETH-USD")
    life.until(2)
    life.acknowledge("ETH-USD")
    assert life.subscriptions.unrequested("BTC-USD") == "BTC-USDC"
    assert life.subscriptions.unrequested("DOGE-USD") is None
    life.until(60)
    problem = life.subscriptions.problem_of("BTC-USDC")
    assert problem is not None
    assert problem.reason == "kraken sends BTC-USDC as BTC-USD; configure BTC-USD instead"


def test_a_venue_may_answer_by_the_number_alone() -> None:
    """Prevents all products of a venue that repeats nothing but our number from counting as unanswered."""
    life = Life("BTC-USD", "ETH-USD", "SOL-USD")
    for _, channel, _, request in life.until(2):
        assert channel in ("trade", "ticker")
        life.subscriptions.acknowledged(Acknowledged(None, None, request))
    assert life.said == ["subscribed"]
    assert life.until(60) == []
    assert life.subscriptions.acknowledged(Acknowledged(None, None, 99))  # not ours, or the end of a subscription
    assert not life.subscriptions.acknowledged(Acknowledged(None, "DOGE-USD"))


def resubscribe(product: str = "BTC-USD", channel: str = "ticker") -> Resubscribe:
    return Resubscribe(channel, product, "the checksum is wrong")


def test_a_parser_can_begin_one_channel_of_one_product_anew() -> None:
    """Prevents a book that cannot be continued from costing the connection, or the other products their data."""
    life = Life("BTC-USD", "ETH-USD")
    life.until(2)
    life.acknowledge("BTC-USD", "ETH-USD")
    assert life.subscriptions.renew(resubscribe(), life.now)
    sent = life.until(life.now + 1)
    assert [one[:3] for one in sent] == [["-", "ticker", ["BTC-USD"]], ["+", "ticker", ["BTC-USD"]]]
    assert sent[0][3] != sent[1][3]  # the answers can be told apart
    assert life.subscriptions.is_pending("ticker", "BTC-USD")
    assert not life.subscriptions.is_pending("trade", "BTC-USD")
    assert not life.subscriptions.renew(resubscribe(), life.now)  # frames that were on their way say the same
    life.subscriptions.acknowledged(Acknowledged(None, None, sent[0][3]))
    assert life.subscriptions.is_pending("ticker", "BTC-USD")
    life.subscriptions.acknowledged(Acknowledged(None, None, sent[1][3]))
    assert not life.subscriptions.is_pending("ticker", "BTC-USD")
    assert not life.subscriptions.renew(resubscribe("DOGE-USD"), life.now)
    assert not life.subscriptions.renew(resubscribe(channel="book"), life.now)


def test_data_that_never_fit_are_asked_for_less_and_less() -> None:
    """Prevents a parser that is never content from using up what the venue lets us send."""
    life = Life("BTC-USD")
    life.until(2)
    life.acknowledge("BTC-USD")
    times: list[float] = []
    while life.now < 3600:
        life.subscriptions.renew(resubscribe(), life.now)
        for kind, channel, *_ in life.until(life.now + 0.25):
            if kind == "+":
                times.append(life.now)
                life.acknowledge("BTC-USD", channel=channel)
    pauses = [later - sooner for sooner, later in pairwise(times)]
    assert 10 < len(times) < 20
    assert pauses == sorted(pauses)
    assert pauses[0] < 2
    assert pauses[-1] >= CAP_S
    life.now += 2 * CAP_S
    life.until(life.now + CAP_S)
    life.acknowledge("BTC-USD")
    life.now += 2 * CAP_S  # all went well for long
    assert life.subscriptions.renew(resubscribe(), life.now)
    assert len(life.until(life.now + 1)) == 2


def test_a_new_connection_begins_everything_anew_by_itself() -> None:
    """Prevents a subscription from being ended that a new connection has only just made."""
    life = Life("BTC-USD")
    life.until(2)
    life.acknowledge("BTC-USD")
    for _ in range(2):
        life.subscriptions.renew(resubscribe(), life.now)
        life.until(life.now + 0.5)
        life.acknowledge("BTC-USD")
    life.subscriptions.opened(life.now)
    assert {kind for kind, *_ in life.until(life.now + 2)} == {"+"}


def test_refusals_without_end_are_few_lines_of_the_log() -> None:
    """Prevents: a disk filled by a venue that refuses what nobody asked for, or a product under ever another name."""
    life = Life("BTC-USD", "ETH-USD", "SOL-USD")
    with capture_logs() as lines:
        life.until(2)
        life.acknowledge("BTC-USD")
        for number in range(1_000):
            life.subscriptions.refused(SubscriptionRefused(None, None, f"no {number}", 10**6), life.now)
        life.until(100)
        for number in range(1_000):
            life.subscriptions.unrequested(f"SOL-X{number}")
    assert 2 <= len(lines) < 20
    problem = life.subscriptions.problem_of("SOL-USD")
    assert problem is not None
    assert "SOL-X999" in problem.reason
