"""Failed sends: said, counted, repaired by opening again, and never in the way of another topic."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import quote

import pytest

import pipeline.broker.publisher
from pipeline.broker.admin import Admin
from pipeline.broker.budget import Budget
from pipeline.broker.client import Bus
from pipeline.broker.publisher import Publisher
from pipeline.core.errors import BadData, Unavailable
from pipeline.core.settings import PulsarSettings, load
from tests.messages import trade, trades_record
from tests.writer_help import until


def publisher_of(bus: Bus, product: str = "BTC-USD", **options: bool) -> Publisher:
    return bus.publisher("trades", "kraken", product, "trades", "test", **options)  # type: ignore[arg-type]


def deliver(publisher: Publisher, records: list[dict[str, Any]]) -> None:
    """Send, and wait until the broker has confirmed each record."""
    confirmed: list[None] = []
    for record in records:
        assert publisher.send(record, wait=True, on_confirmed=lambda: confirmed.append(None))
    until(lambda: len(confirmed) == len(records))


def admin(method: str, publisher: Publisher, what: str) -> None:
    path = quote(publisher.topic.replace("://", "/"), safe="/")
    Admin(load(PulsarSettings))._call(method, f"{path}{what}")


def test_a_terminated_topic_fails_is_said_and_goes_on_after_its_deletion(bus: Bus) -> None:
    broken, other = publisher_of(bus), publisher_of(bus, "ETH-USD")
    assert broken.send(trades_record([trade(1)]))
    assert broken.flush(10)
    admin("POST", broken, "/terminate")
    broken.send(trades_record([trade(2)]))
    until(lambda: broken.failed == 1)
    assert broken.trouble == "TopicTerminated"
    assert not broken.send(trades_record([trade(3)]))
    assert not broken.flush(0.1)
    assert broken.pending == 0
    assert other.send(trades_record([trade(1)]))
    assert other.flush(10)
    admin("DELETE", broken, "?force=true")
    until(lambda: broken.trouble is None)
    deliver(broken, [trades_record([trade(4)])])


def test_who_waits_is_told_instead_of_waiting_for_ever(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repair that waited without end for one topic held up the repair of all others."""
    monkeypatch.setattr(pipeline.broker.publisher, "PATIENCE_S", 1.0)
    broken = publisher_of(bus)
    admin("POST", broken, "/terminate")
    broken.send(trades_record([trade(1)]))
    until(lambda: broken.failed == 1)
    with pytest.raises(Unavailable, match="TopicTerminated"):
        broken.send(trades_record([trade(2)]), wait=True)
    again = publisher_of(bus)  # returns: nothing waits for a topic that has ended
    assert again.trouble == "TopicTerminated"


def test_what_no_schema_can_hold_is_not_counted_as_on_its_way(bus: Bus) -> None:
    publisher = publisher_of(bus)
    with pytest.raises(BadData, match="int"):
        publisher.send(trades_record([trade(1) | {"trade_id": 1 << 80}]))
    assert publisher.pending == 0
    assert publisher.flush(1)
    publisher._link.producer.close()  # type: ignore[union-attr]  # under its hands
    publisher.send(trades_record([trade(1)]))
    until(lambda: publisher.failed == 1 and publisher.pending == 0)
    until(lambda: publisher.trouble is None)
    deliver(publisher, [trades_record([trade(2)])])


def test_a_message_that_is_too_big_costs_itself(bus: Bus) -> None:
    publisher = publisher_of(bus)
    noise = [trade(number) | {"price": str(hash((number, 1)) % 10**60)} for number in range(120_000)]
    publisher.send(trades_record(noise))
    until(lambda: publisher.pending == 0)
    assert publisher.trouble is None
    deliver(publisher, [trades_record([trade(2)])])


def test_memory_is_one_budget_for_all_topics(stop: threading.Event) -> None:
    """Two hundred topics with a bound each came to some gigabytes."""
    made = Bus(load(PulsarSettings), stop, budget_bytes=20_000)
    topics = [publisher_of(made, f"P{number}-USD") for number in range(4)]
    budget = made.budget
    assert budget.reserve(20_000 - 2_000)  # what others have on their way
    assert topics[0].send(trades_record([trade(1)]))
    until(lambda: topics[0].pending == 0)
    assert budget.reserve(2_000)
    assert not any(topic.send(trades_record([trade(1)])) for topic in topics)
    assert [topic.overflowed for topic in topics] == [1, 1, 1, 1]
    budget.release(20_000)
    deliver(topics[1], [trades_record([trade(1)])])
    until(lambda: budget.used == 0)
    made.close()


def test_a_budget_is_never_too_small_for_one_message() -> None:
    budget = Budget(10)
    assert budget.reserve(100)
    assert not budget.reserve(1)
    budget.release(100)
    assert budget.reserve(1)


def test_a_name_in_use_is_another_process_and_no_failure(bus: Bus, stop: threading.Event) -> None:
    first = publisher_of(bus)
    second_bus = Bus(load(PulsarSettings), stop)
    second = publisher_of(second_bus, lazy=True)
    until(lambda: second.elsewhere)
    assert not second.send(trades_record([trade(1)]))
    assert second.failed == 0
    first.close()
    until(lambda: second.trouble is None)
    deliver(second, [trades_record([trade(1)])])
    second_bus.close()


def test_the_clients_thread_keeps_its_state(bus: Bus) -> None:
    """A tenth of a live producer's processor time was making one for every confirmation, and deleting it."""
    state = threading.local()  # part of a thread's state
    calls: list[int] = []

    def confirmed() -> None:
        state.calls = getattr(state, "calls", 0) + 1
        calls.append(state.calls)

    publisher = publisher_of(bus)
    for number in range(3):
        assert publisher.send(trades_record([trade(number)]), wait=True, on_confirmed=confirmed)
        until(lambda: publisher.pending == 0)
    assert calls == [1, 2, 3]
