"""Messages of any size on one topic: hours of quotes, of which the largest are beyond what the broker takes at once."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import psycopg
import pulsar
import pytest

import pipeline.broker.publisher
import schemas
from consumers.quote_hours import Hours
from consumers.subscription import SUBSCRIPTION
from consumers.writer import Writer
from pipeline.broker.admin import Admin
from pipeline.broker.budget import Budget
from pipeline.broker.chunked_publisher import WholePublisher
from pipeline.broker.client import Bus, new_client
from pipeline.broker.opener import Opener
from pipeline.broker.publisher import Publisher
from pipeline.core.settings import PulsarSettings, load
from schemas.columns import decode_quote_hour
from tests.messages import T0_US, hour_bytes
from tests.writer_help import until

HOUR_US = 3_600_000_000
BROKERS_LIMIT = 5 << 20


def small(number: int) -> bytes:
    return hour_bytes([0, 1], [114543, 114544], hour_start_us=T0_US + number * HOUR_US)


def large(number: int, seed: int = 1) -> bytes:
    """An hour of 7 MB that cannot be compressed below the broker's limit."""
    rng = np.random.default_rng(seed)
    count = 400_000
    sizes = rng.integers(1 << 21, 1 << 27, count)
    prices = rng.integers(1 << 17, 1 << 19, count)
    offsets = np.sort(rng.integers(0, 3_600_000, count))
    made = hour_bytes(offsets.tolist(), prices.tolist(), None, sizes.tolist(), hour_start_us=T0_US + number * HOUR_US)
    assert len(made) > BROKERS_LIMIT
    return made


def publisher_of(bus: Bus) -> Publisher:
    return bus.publisher("quotes", "dukascopy", "EUR-USD", "quotes", "test", whole=True)


def read_back(topic: str) -> list[tuple[int, tuple[int, int]]]:
    """Numbers of the hours on a topic, each with the entry of the broker that holds it or its last chunk."""
    client = new_client(load(PulsarSettings))
    reader = client.create_reader(topic, pulsar.MessageId.earliest)
    found = []
    while reader.has_message_available():
        message = reader.read_next(30_000)
        header = decode_quote_hour(message.data()).header
        place = message.message_id().ledger_id(), message.message_id().entry_id()
        found.append(((header.hour_start_us - T0_US) // HOUR_US, place))
    client.close()
    return found


def numbers_of(topic: str) -> list[int]:
    return [number for number, _ in read_back(topic)]


def test_small_hours_share_entries_and_large_ones_arrive_in_chunks(
    bus: Bus, stop: threading.Event, database_url: str
) -> None:
    """A Pulsar producer batches or chunks; an hour beyond 5 MB on the batching one would fail for ever."""
    publisher = publisher_of(bus)
    for number in range(40):
        assert publisher.send(large(number) if number == 20 else small(number))
    assert publisher.flush(30)
    found = read_back(publisher.topic)
    assert [number for number, _ in found] == list(range(40))
    assert len({place for _, place in found}) < 20

    writer = Writer("quotes-writer", [Hours()], stop)
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        with psycopg.connect(database_url, autocommit=True) as conn:
            query = "SELECT coalesce(sum(ticks), 0)::int FROM quote_hours"
            until(lambda: conn.execute(query).fetchone() == (39 * 2 + 400_000,), 60)
        admin = Admin(load(PulsarSettings))
        until(lambda: admin.backlog(publisher.topic, SUBSCRIPTION).messages == 0)
    finally:
        stop.set()
        thread.join(10)


class Recorded:
    """In place of a Pulsar producer: tells what was handed to it, and confirms when told to."""

    def __init__(self, name: str, order: list[str]) -> None:
        self.name, self.order = name, order
        self.callbacks: list[Any] = []

    def send_async(self, _data: bytes, callback: Any, **_options: Any) -> None:
        self.order.append(self.name)
        self.callbacks.append(callback)

    def confirm(self) -> None:
        self.order.append(f"{self.name} confirmed")
        self.callbacks.pop()(pulsar.Result.Ok, None)

    def last_sequence_id(self) -> int:
        return -1


def test_nothing_is_on_its_way_beside_a_large_hour() -> None:
    """A reader that acknowledges what lies between two chunks acknowledges the first, and after a crash lacks it. (With
    a real broker it takes a connection that breaks between them.)"""
    order: list[str] = []
    made: dict[str, Recorded] = {}

    def connect(name: str, **_options: Any) -> Any:
        return made.setdefault(name, Recorded(name, order))

    stop = threading.Event()
    encode = schemas.registered("quotes").encode
    publisher = WholePublisher(connect, "topic", encode, "a", 100, stop, Budget(1 << 30), Opener(stop), ("", ""))
    publisher.open()
    hours = (small(0), large(1), small(2))
    threads = [threading.Thread(target=publisher.send, args=(hour,)) for hour in hours]
    threads[0].start()
    threads[0].join()
    threads[1].start()
    until(lambda: "a-large" in made and publisher._turn.locked())
    made["a"].confirm()
    until(lambda: made["a-large"].callbacks)
    threads[2].start()
    threads[2].join(0.2)  # it must not end: there is nothing to wait for
    made["a-large"].confirm()
    for thread in threads:
        thread.join(10)
    assert order == ["a", "a confirmed", "a-large", "a-large confirmed", "a"]


def test_after_a_clock_set_back_neither_way_is_dropped_as_a_repetition(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequence ids start from the clock; the broker silently drops one that is below what it saw of either producer."""
    first = publisher_of(bus)
    first.send(large(0, seed=3))
    first.send(large(1))
    assert first.flush(30)
    first.close()
    monkeypatch.setattr(pipeline.broker.publisher, "now_us", lambda: 5)
    second = publisher_of(bus)
    second.send(small(2))
    second.send(large(3, seed=2))
    assert second.flush(30)
    assert sorted(numbers_of(second.topic)) == [0, 1, 2, 3]


def test_who_waits_to_send_a_large_hour_does_not_hold_up_the_small_ones(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second producer comes with the first large hour; while another process has its name, the rest goes on."""
    topic = bus.publisher("quotes", "dukascopy", "EUR-USD", "quotes", "other").topic
    stranger = new_client(load(PulsarSettings))
    taken = stranger.create_producer(
        topic, producer_name="test-large/dukascopy.eur-usd", schema=schemas.registered("quotes")
    )
    create, refused = bus.client.create_producer, threading.Event()

    def watched(*args: Any, **options: Any) -> Any:
        try:
            return create(*args, **options)
        except pulsar.PulsarException:
            refused.set()
            raise

    monkeypatch.setattr(bus.client, "create_producer", watched)
    publisher = publisher_of(bus)
    sent: list[bool] = []
    thread = threading.Thread(target=lambda: sent.append(publisher.send(large(1))))
    thread.start()
    assert refused.wait(30)
    assert publisher.send(small(0))
    assert publisher.flush(10)
    taken.close()
    thread.join(30)
    stranger.close()
    assert sent == [True]
    assert publisher.flush(30)
    assert sorted(numbers_of(topic)) == [0, 1]
