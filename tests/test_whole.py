"""Messages of any size on one topic: hours of quotes, of which the largest are beyond what the broker takes at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
import pulsar
import pytest

import pipeline.publisher
import schemas
from consumers.hours import Hours
from consumers.inbox import SUBSCRIPTION
from consumers.writer import Writer
from pipeline import bootstrap
from pipeline.admin import Admin
from pipeline.bus import Bus, new_client
from pipeline.publisher import Publisher
from pipeline.settings import PulsarSettings, load
from schemas.columns import decode_quote_hour
from tests.messages import T0_US, hour_bytes
from tests.test_pipeline import until

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


@pytest.fixture
def stop(in_env: Callable[..., None]) -> Iterator[threading.Event]:
    in_env()
    bootstrap.broker(load(PulsarSettings))
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def bus(stop: threading.Event) -> Iterator[Bus]:
    made = Bus(load(PulsarSettings), stop)
    yield made
    made.close()


def publisher_of(bus: Bus) -> Publisher:
    return bus.publisher("quotes", "dukascopy", "EUR-USD", "quotes", "test", whole=True)


def read_back(topic: str) -> tuple[list[int], set[tuple[int, int]]]:
    """Numbers of the hours on a topic, and the entries of the broker that hold them."""
    client = new_client(load(PulsarSettings))
    reader = client.create_reader(topic, pulsar.MessageId.earliest)
    numbers, entries = [], set()
    while reader.has_message_available():
        message = reader.read_next(30_000)
        header = decode_quote_hour(message.data()).header
        numbers.append((header["hour_start_us"] - T0_US) // HOUR_US)
        entries.add((message.message_id().ledger_id(), message.message_id().entry_id()))
    client.close()
    return numbers, entries


def test_small_hours_share_entries_and_large_ones_arrive_in_chunks(
    bus: Bus, stop: threading.Event, database_url: str
) -> None:
    """A Pulsar producer batches or chunks; an hour beyond 5 MB on the batching one would fail for ever."""
    publisher = publisher_of(bus)
    for number in range(40):
        assert publisher.send(large(number) if number == 20 else small(number))
    assert publisher.flush(30)
    numbers, entries = read_back(publisher.topic)
    assert sorted(numbers) == list(range(40))
    assert len(entries) < 20

    writer = Writer("quotes-writer", [Hours()], stop)
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        with psycopg.connect(database_url, autocommit=True) as conn:
            query = "SELECT coalesce(sum(ticks), 0)::int FROM quote_hours"
            until(lambda: conn.execute(query).fetchone() == (39 * 2 + 400_000,), 60)
        admin = Admin(load(PulsarSettings))
        until(lambda: admin.backlog(publisher.topic, SUBSCRIPTION)[0] == 0)
    finally:
        stop.set()
        thread.join(10)


def test_after_a_clock_set_back_neither_way_is_dropped_as_a_repetition(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequence ids start from the clock; the broker silently drops one that is below what it saw of either producer."""
    first = publisher_of(bus)
    first.send(large(0, seed=3))
    first.send(large(1))
    assert first.flush(30)
    first.close()
    monkeypatch.setattr(pipeline.publisher, "now_us", lambda: 5)
    second = publisher_of(bus)
    second.send(small(2))
    second.send(large(3, seed=2))
    assert second.flush(30)
    assert sorted(read_back(second.topic)[0]) == [0, 1, 2, 3]


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
    assert sorted(read_back(topic)[0]) == [0, 1]
