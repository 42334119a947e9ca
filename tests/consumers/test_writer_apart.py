"""What does not concern a writer's rows does not stop them: topics that go and come, letters that cannot be sent, a
second writer, a database that is another one than before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import schemas
from consumers import health
from consumers.subscription import SUBSCRIPTION
from consumers.topic_watch import TopicWatch
from consumers.trades import Trades
from consumers.writer import Writer
from pipeline.broker.admin import Admin
from pipeline.broker.client import Bus
from pipeline.broker.topics import full_name, topic_of
from tests import hostile
from tests.messages import T0_US, ticker_record
from tests.writer_help import Rig, ids_of, publish, until


def admin(rig: Rig, method: str, topic: str, what: str = "") -> None:
    """The broker's own interface, as an operator uses it."""
    path = topic.replace("://", "/")
    rig.admin._call(method, f"{path}{what}")


def test_topics_that_are_terminated_deleted_and_made_again(rig: Rig, bus: Bus) -> None:
    """Prevents a subscription that ends with one of its topics, and a topic that is never read again."""
    topic = topic_of(bus.settings.tenant, "trades", "kraken", "SOL-USD")
    publish(bus, "SOL-USD", 1)
    until(lambda: ids_of(rig, "SOL-USD") == [1])
    admin(rig, "POST", topic, "/terminate")
    publish(bus, "ETH-USD", 1)
    until(lambda: ids_of(rig, "ETH-USD") == [1])
    admin(rig, "DELETE", topic, "?force=true")
    publish(bus, "SOL-USD", 2)
    until(lambda: ids_of(rig, "SOL-USD") == [1, 2])
    for number in range(3, 6):  # made again before anybody could notice
        admin(rig, "DELETE", topic, "?force=true")
        publish(bus, "SOL-USD", number)
        until(lambda number=number: (ids_of(rig, "SOL-USD") or [])[-1:] == [number])
    until(lambda: rig.writer.state.report()[0])
    assert rig.ended is None


def test_a_topic_that_is_gone_is_not_called_a_failing_broker(
    rig: Rig, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    look = TopicWatch.poll
    monkeypatch.setattr(TopicWatch, "poll", lambda watch: looks.append(look(watch)) or looks[-1])
    monkeypatch.setattr(health, "POLL_EVERY_S", 0.5)
    topic = topic_of(bus.settings.tenant, "trades", "kraken", "BTC-USD")
    admin(rig, "DELETE", topic, "?force=true")
    before = len(looks)
    until(lambda: len(looks) > before + 8)  # twice all four namespaces
    assert rig.writer.state.report()[1]["why"] == ["all well"]


def test_letters_that_cannot_be_sent_are_said_and_sent_later(rig: Rig, bus: Bus) -> None:
    """Prevents a refused row that is acknowledged without a letter, a spin that looks well, and a writer whose other
    namespaces wait for the letters of one."""
    letters = full_name(bus.settings.tenant, "dead-letters", "trades-writer")
    publish(bus, "BTC-USD", 1, price="-1")
    until(lambda: len(rig.letters()) == 1)
    admin(rig, "POST", letters, "/terminate")
    publish(bus, "BTC-USD", 2, price="-1")
    until(lambda: any("dead letters could not be sent" in why for why in rig.writer.state.report()[1]["why"]))
    assert rig.admin.backlog(rig.topic("trades"), SUBSCRIPTION).messages > 0, "acknowledged without its letter"
    rig.send("ticker", schemas.encode("ticker", ticker_record(T0_US + 5)))
    until(lambda: rig.one(f"SELECT count(*) FROM quotes WHERE ts = to_timestamp({T0_US / 1e6} + 0.000005)") == 1)
    admin(rig, "DELETE", letters, "?force=true")
    until(lambda: [letter["reason"] for letter in rig.letters()] == ["price"], 90)
    until(lambda: rig.admin.backlog(rig.topic("trades"), SUBSCRIPTION).messages == 0)
    until(lambda: rig.writer.state.report()[0])


def test_two_writers_have_letters_at_once(bus: Bus, stop: threading.Event, in_env: Callable[..., None]) -> None:
    """A second trades writer stopped at its first letter: the name of its producer was taken. And whether it got any
    topic was decided by which of the two subscribed last, because their consumers had no names."""
    # Shared out by a hash of random names: one of the two gets none of 20 topics once in half a million times.
    products = [f"{base}{number}-USD" for base in ("BTC", "ETH", "SOL", "XRP") for number in range(5)]
    for number, product in enumerate(products):
        publish(bus, product, 1, price="-1" if number % 2 else "5")
    writers = [Writer("trades-writer", [Trades()], stop) for _ in range(2)]
    threads = [threading.Thread(target=writer.run) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        topics = [topic_of(bus.settings.tenant, "trades", "kraken", product) for product in products]
        admin_api = Admin(bus.settings)
        stats = [f"{topic.replace('://', '/')}/stats" for topic in topics]

        def readers(path: str) -> Any:
            return admin_api._call("GET", path)["subscriptions"].get(SUBSCRIPTION, {"consumers": []})

        until(lambda: all(len(readers(path)["consumers"]) == 2 for path in stats))
        active = {readers(path)["activeConsumerName"] for path in stats}
        assert len(active) == 2, "the topics are not shared"
        for product in products:
            publish(bus, product, 2, price="-1")
        for topic in topics:
            until(lambda topic=topic: admin_api.backlog(topic, SUBSCRIPTION).messages == 0)
        assert all(writer.running for writer in writers)
        assert all(writer._lanes[0]._letters._publisher is not None for writer in writers), "both had letters"
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


def test_remembered_ids_that_are_somebody_elses_now(rig: Rig, bus: Bus) -> None:
    """After a restore an id may be another product's: trades of SOL were stored under XAU, and verify proved it."""
    publish(bus, "SOL-USD", 1)
    publish(bus, "ETH-USD", 1)
    until(lambda: (ids_of(rig, "SOL-USD"), ids_of(rig, "ETH-USD")) == ([1], [1]))
    rig.conn.execute("""
        UPDATE instruments SET product_id = CASE product_id WHEN 'SOL-USD' THEN 'X' ELSE 'Y' END
        WHERE product_id IN ('SOL-USD', 'ETH-USD');
        UPDATE instruments SET product_id = 'ETH-USD' WHERE product_id = 'X';
        UPDATE instruments SET product_id = 'SOL-USD' WHERE product_id = 'Y';
        UPDATE instruments SET product_id = 'XAU-USD' WHERE venue = 'dukascopy';
        UPDATE instruments SET product_id = 'XMR-USD' WHERE venue = 'kraken' AND product_id = 'BTC-USD'""")
    publish(bus, "SOL-USD", 7)
    publish(bus, "ETH-USD", 8)
    until(lambda: (ids_of(rig, "SOL-USD"), ids_of(rig, "ETH-USD")) == ([1, 7], [1, 8]))
    for name in ("ticker", "quotes", "candles"):
        rig.send_good(name)
    mine = "SELECT count(*) FROM {} JOIN instruments USING (instrument_id) WHERE product_id = '{}'"
    until(lambda: rig.one(mine.format("quotes", "BTC-USD")) == 1)
    until(lambda: rig.one(mine.format("quote_hours", "EUR-USD")) == 1)
    until(lambda: rig.one(mine.format("exchange_candles", "BTC-USD")) == 1)
    assert rig.one(mine.format("quotes", "XMR-USD")) == 1
    assert rig.one(mine.format("quote_hours", "XAU-USD")) == 1
    assert hostile.PRODUCT["quotes"] == "EUR-USD"
