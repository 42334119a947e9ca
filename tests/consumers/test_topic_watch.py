"""Topics whose messages wait although the writer runs: read again, and named in `/health`."""

from __future__ import annotations

import threading
from typing import Any, cast

import pulsar
import pytest

from consumers import health
from consumers.subscription import SUBSCRIPTION
from consumers.topic_watch import TopicWatch
from pipeline.broker.admin import Admin, Backlog
from pipeline.broker.client import Bus
from pipeline.broker.topics import topic_of
from pipeline.core.errors import WrongAnswer
from tests.writer_help import Rig, ids_of, publish, until


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "POLL_EVERY_S", 1.5)


def test_a_topic_that_the_client_lost_is_read_again(rig: Rig, bus: Bus) -> None:
    """The client never tries again to subscribe to a new topic if that failed once: its trades were not stored until
    the next start, and `/health` said that all was well."""
    topic = topic_of(bus.settings.tenant, "trades", "kraken", "ETH-USD")
    other = rig.client.subscribe(topic, SUBSCRIPTION, pulsar.ConsumerType.Exclusive)
    publish(bus, "ETH-USD", 1)
    publish(bus, "SOL-USD", 1)
    until(lambda: ids_of(rig, "SOL-USD") == [1])  # so the client has looked for new topics
    other.close()
    until(lambda: ids_of(rig, "ETH-USD") == [1])
    until(lambda: rig.writer.state.report()[0])
    assert rig.ended is None


def test_a_topic_that_refuses_does_not_stop_the_others(bus: Bus, conn: Any, stop: threading.Event) -> None:
    """The client subscribes to all topics or to none: one that was broken, or that somebody else held, kept a writer
    from its whole namespace at each start."""
    held = topic_of(bus.settings.tenant, "trades", "kraken", "ETH-USD")
    other = bus.client.subscribe(held, SUBSCRIPTION, pulsar.ConsumerType.Exclusive)
    publish(bus, "ETH-USD", 1)
    publish(bus, "ETH-USDT", 1)
    rig = Rig(bus, conn, stop)
    rig.start()
    until(lambda: ids_of(rig, "ETH-USDT") == [1])
    assert ids_of(rig, "ETH-USD") is None
    other.close()
    until(lambda: ids_of(rig, "ETH-USD") == [1])
    until(lambda: rig.writer.state.report()[0])
    stop.set()
    rig.join()
    assert rig.ended is None


class FakeAdmin:
    """Answers with what a test sets; its clock stands still."""

    def __init__(self) -> None:
        self.topics = {"a": Backlog(0, 0, 1, 0), "b": Backlog(0, 0, 1, 0)}
        self.broken: set[str] = set()
        self.now = 0.0

    def parts(self, _namespace: str) -> list[str]:
        return list(self.topics)

    def backlog(self, topic: str, _subscription: str) -> Backlog:
        if topic in self.broken:
            raise WrongAnswer(f"{topic}: 500")
        return self.topics[topic]


@pytest.fixture
def fake() -> FakeAdmin:
    return FakeAdmin()


@pytest.fixture
def watch(fake: FakeAdmin) -> TopicWatch:
    return TopicWatch(cast(Admin, fake), "t", "trades", lambda: fake.now)


def test_a_topic_that_stands_still_is_named_while_others_move(fake: FakeAdmin, watch: TopicWatch) -> None:
    """The backlog of all topics together was looked at: one that stood still was hidden by those that did not."""
    for second in range(0, 70, 10):
        fake.now = second
        fake.topics |= {"a": Backlog(5 + second, 0, 1, second), "b": Backlog(7, 0, 1, 100)}
        assert watch.poll() == 12 + second
        assert watch.why() == []
    fake.now = 61
    assert watch.why() == ["trades: nothing of b was stored for a minute"]
    fake.topics["b"] = Backlog(6, 0, 1, 101)
    watch.poll()
    assert watch.why() == []


def test_an_empty_topic_may_stand_still(fake: FakeAdmin, watch: TopicWatch) -> None:
    """A quiet market would be an alarm, and so would the first message after it."""
    watch.poll()
    fake.now = 1000
    watch.poll()
    fake.topics["a"] = Backlog(1, 0, 1, 0)
    watch.poll()
    assert watch.why() == []


def test_a_topic_without_reader_is_subscribed_to_at_every_second_look(fake: FakeAdmin, watch: TopicWatch) -> None:
    """A subscription that takes longer than the time between two looks would start over for ever."""
    fake.topics = {f"kraken.{number}": Backlog(0, 0, 0, 0) for number in range(5)}
    lost = []
    for _ in range(4):
        watch.poll()
        lost.append(len(watch.lost()))
    assert lost == [0, 5, 0, 5]
    assert watch.why() == ["trades: nothing reads kraken.0, kraken.1, kraken.2 and 2 more"]


def test_a_new_topic_is_not_lost(fake: FakeAdmin, watch: TopicWatch) -> None:
    """The client takes up to a second to find it."""
    fake.topics["c"] = Backlog(3, 0, 0, 0)
    watch.poll()
    assert (watch.unread(), watch.why()) == ([], [])
    fake.topics["c"] = Backlog(0, 0, 1, 5)
    watch.poll()
    assert (watch.unread(), watch.why()) == ([], [])


def test_a_topic_without_statistics_is_named_and_the_others_are_watched(watch: TopicWatch, fake: FakeAdmin) -> None:
    """The broker answered 500 for one damaged topic: the whole look failed, and no other topic was read again."""
    fake.broken = {"a"}
    fake.topics["b"] = Backlog(3, 100, 0, 0)
    assert [watch.poll(), watch.poll()] == [3, 3]
    assert watch.lost() == ["b"]
    silent, unread = watch.why()
    assert "how much of a waits: a: 500" in silent
    assert "nothing reads b" in unread
    fake.broken = set()
    watch.poll()
    assert watch.why() == ["trades: nothing reads b"]


def test_nothing_is_claimed_of_a_topic_without_statistics(watch: TopicWatch, fake: FakeAdmin) -> None:
    """What an earlier look had found was repeated as if it were still so; the backlog's age must survive, though."""
    fake.topics["a"] = Backlog(3, 100, 1, 5)
    watch.poll()
    fake.now, fake.broken = 61.0, {"a"}
    watch.poll()
    (silent,) = watch.why()
    assert "how much of a waits" in silent
    fake.broken = set()
    watch.poll()
    assert watch.why() == ["trades: nothing of a was stored for a minute"]
