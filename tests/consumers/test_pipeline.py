"""Broker, writer and database together: what is published is stored once, what is poison is a dead letter."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pulsar
import pytest

import schemas
from consumers.quote_hours import Hours
from consumers.subscription import SUBSCRIPTION
from consumers.tickers import Tickers
from consumers.trades import Trades
from consumers.writer import Writer
from pipeline.broker import bootstrap
from pipeline.broker.admin import Admin
from pipeline.broker.client import Bus, new_client
from pipeline.broker.topics import full_name, topic_of
from pipeline.core.settings import PulsarSettings, load
from tests.messages import T0_US, hour_bytes, ticker_record, trade, trades_record
from tests.writer_help import until


@pytest.fixture
def writer(stop: threading.Event) -> Iterator[Callable[..., Writer]]:
    threads = []

    def start(*kinds: Any) -> Writer:
        made = Writer("trades-writer", kinds, stop)
        thread = threading.Thread(target=made.run)
        thread.start()
        threads.append(thread)
        return made

    yield start
    stop.set()
    for thread in threads:
        thread.join(10)


def one(conn: Any, query: str) -> Any:
    row = conn.execute(query).fetchone()
    return row and row[0]


def letters(tenant: str) -> list[dict[str, Any]]:
    client = new_client(load(PulsarSettings))
    topic = full_name(tenant, "dead-letters", "trades-writer")
    reader = client.create_reader(topic, pulsar.MessageId.earliest, schema=schemas.registered("dead_letter"))
    found = []
    while reader.has_message_available():
        found.append(reader.read_next(5000).value())
    client.close()
    return found


class Garbage(schemas.RegisteredSchema):
    """Claims the right schema and sends whatever it is given: what a broken producer does."""

    def encode(self, obj: Any) -> bytes:
        return bytes(obj)


def test_messages_become_rows_once_and_everything_is_acknowledged(
    bus: Bus, writer: Any, conn: Any, tenant: str
) -> None:
    trades = bus.publisher("trades", "kraken", "BTC-USD", "trades", "test")
    quotes = bus.publisher("quotes", "dukascopy", "EUR-USD", "quotes", "test", whole=True)
    tickers = bus.publisher("tickers", "kraken", "BTC-USD", "ticker", "test")
    for i in range(300):
        trades.send(trades_record([trade(2 * i + 1), trade(2 * i + 2)]))
        tickers.send(ticker_record(T0_US + i * 1_000_000))
    for _ in range(3):
        trades.send(trades_record([trade(1), trade(2)]))
        quotes.send(hour_bytes([0, 1], [114543, 114544]))
    writer(Trades(), Hours(), Tickers())
    until(lambda: one(conn, "SELECT count(*) FROM trades") == 600)
    until(lambda: one(conn, "SELECT count(*) FROM quotes") == 302)
    admin = Admin(load(PulsarSettings))
    for namespace, venue, product in (
        ("trades", "kraken", "BTC-USD"),
        ("tickers", "kraken", "BTC-USD"),
        ("quotes", "dukascopy", "EUR-USD"),
    ):
        topic = topic_of(tenant, namespace, venue, product)
        until(lambda topic=topic: admin.backlog(topic, SUBSCRIPTION).messages == 0)
    assert one(conn, "SELECT sum(ticks)::int FROM trade_candle_1h") == 600
    assert one(conn, "SELECT rows FROM completeness WHERE kind = 'quotes'") == 2


def test_poison_goes_to_dead_letters_the_rest_is_stored(bus: Bus, writer: Any, conn: Any, tenant: str) -> None:
    """One bad row or message must neither stop the topic nor take good rows with it."""
    trades = bus.publisher("trades", "kraken", "BTC-USD", "trades", "test")
    broken = bus.client.create_producer(trades.topic, schema=Garbage("trades"))
    trades.send(trades_record([trade(1), trade(2, price="-5"), trade(3)]))
    trades.flush(10)
    broken.send(b"\xff" * 12)
    trades.send(trades_record([trade(4)], product="ETH-USD"))
    trades.send(trades_record([trade(5)]))
    writer(Trades())
    until(lambda: one(conn, "SELECT array_agg(trade_id::int ORDER BY trade_id) FROM trades") == [1, 3, 5])
    until(lambda: Admin(load(PulsarSettings)).backlog(trades.topic, SUBSCRIPTION).messages == 0)
    found = letters(tenant)
    expected = {("price", 1), ("schema", None), ("topic", None)}
    assert {(letter["reason"], letter["row"]) for letter in found} == expected
    assert b"\xff" * 12 in [letter["payload"] for letter in found]
    assert all(letter["topic"] == trades.topic and letter["message_id"] for letter in found)


def test_a_row_that_only_the_database_refuses_is_found_and_the_rest_is_stored(
    bus: Bus, writer: Any, conn: Any, tenant: str
) -> None:
    """One such row must not stop the topic for ever; its id stays missing, so the venue is asked for it again."""
    conn.execute("ALTER TABLE trades ADD CHECK (price <> 666)")
    trades = bus.publisher("trades", "kraken", "BTC-USD", "trades", "test")
    for i in range(20):
        trades.send(trades_record([trade(3 * i + k, price="666" if 3 * i + k == 31 else "5") for k in (1, 2, 3)]))
    writer(Trades())
    until(lambda: one(conn, "SELECT count(*) FROM trades") == 59)
    until(lambda: Admin(load(PulsarSettings)).backlog(trades.topic, SUBSCRIPTION).messages == 0)
    assert [(letter["reason"], letter["row"]) for letter in letters(tenant)] == [("database", 0)]
    assert conn.execute("SELECT first_id, last_id FROM trade_gaps").fetchall() == [(31, 31)]


def test_a_stop_before_the_commit_acknowledges_nothing(bus: Bus, writer: Any, conn: Any, stop: threading.Event) -> None:
    """An acknowledgement without a commit would lose the batch for good."""
    trades = bus.publisher("trades", "kraken", "BTC-USD", "trades", "test")
    for i in range(1, 51):
        trades.send(trades_record([trade(i)]))
    assert trades.flush(10)
    blocker = psycopg.connect(conn.info.dsn, password=conn.info.password)
    blocker.execute("LOCK TABLE trade_coverage")
    blocked = writer(Trades())
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'trades-writer'"
    )
    until(lambda: one(conn, waiting) > 0)
    stop.set()
    blocker.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'trades-writer'")
    blocker.close()
    until(lambda: not blocked.running)
    assert one(conn, "SELECT count(*) FROM trades") == 0
    assert Admin(load(PulsarSettings)).backlog(trades.topic, SUBSCRIPTION).messages > 0


def test_a_topic_made_later_is_read_without_waiting_for_the_pattern(bus: Bus, writer: Any, conn: Any) -> None:
    """The client finds topics of a pattern only every 60 s unless it is told otherwise beneath its own interface."""
    bus.publisher("trades", "kraken", "BTC-USD", "trades", "test").send(trades_record([trade(1)]))
    writer(Trades())
    until(lambda: one(conn, "SELECT count(*) FROM trades") == 1)
    later = bus.publisher("trades", "kraken", "SOL-USD", "trades", "test")
    later.send(trades_record([trade(1)], product="SOL-USD"))
    until(lambda: one(conn, "SELECT count(*) FROM trades") == 2, timeout_s=20)


def test_two_writers_share_the_topics_and_take_over(bus: Bus, writer: Any, conn: Any, stop: threading.Event) -> None:
    publishers = [
        bus.publisher("trades", "kraken", product, "trades", "test") for product in ("BTC-USD", "ETH-USD", "SOL-USD")
    ]
    for kind in (Trades(), Trades()):
        writer(kind)
    for i in range(1, 400):
        for publisher, product in zip(publishers, ("BTC-USD", "ETH-USD", "SOL-USD"), strict=True):
            publisher.send(trades_record([trade(i)], product=product))
    until(lambda: one(conn, "SELECT count(*) FROM trades") == 3 * 399)
    assert one(conn, "SELECT sum(rows)::int FROM trade_coverage") == 3 * 399
    assert one(conn, "SELECT sum(ticks)::int FROM trade_candle_1m") == 3 * 399


def test_the_broker_refuses_what_has_no_schema_or_another_one(bus: Bus, tenant: str) -> None:
    topic = bus.publisher("trades", "kraken", "BTC-USD", "trades", "test").topic
    with pytest.raises(pulsar.IncompatibleSchema):
        bus.client.create_producer(topic)
    changed = schemas.definition("trades") | {
        "fields": [*schemas.definition("trades")["fields"], {"name": "extra", "type": "string"}]
    }
    with pytest.raises(pulsar.IncompatibleSchema):
        bus.client.create_producer(topic, schema=pulsar.schema.AvroSchema(None, schema_definition=changed))
    allowed = schemas.definition("trades") | {
        "fields": [
            *schemas.definition("trades")["fields"],
            {"name": "extra", "type": ["null", "string"], "default": None},
        ]
    }
    bus.client.create_producer(topic, schema=pulsar.schema.AvroSchema(None, schema_definition=allowed)).close()


def test_sequence_ids_grow_past_a_clock_that_was_set_back(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, tenant: str
) -> None:
    """Deduplication would silently swallow everything of a producer whose ids start below the last ones."""
    first = bus.publisher("trades", "kraken", "BTC-USD", "trades", "live")
    first.send(trades_record([trade(1)]))
    assert first.flush(10)
    first.close()
    monkeypatch.setattr("pipeline.broker.publisher.now_us", lambda: T0_US - 3_600_000_000)
    second = bus.publisher("trades", "kraken", "BTC-USD", "trades", "live")
    second.send(trades_record([trade(2)]))
    assert second.flush(10)
    reader = bus.client.create_reader(first.topic, pulsar.MessageId.earliest, schema=schemas.registered("trades"))
    assert [reader.read_next(5000).value()["trades"][0]["trade_id"] for _ in range(2)] == [1, 2]


def test_bootstrap_twice_at_once_is_fine(services: Any, in_env: Any) -> None:
    in_env()
    settings = load(PulsarSettings)
    failures = []

    def run() -> None:
        try:
            bootstrap.broker_when_ready(settings, threading.Event())  # as programs do: the broker may say "again"
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    spaces = set(Admin(settings).namespaces(settings.tenant))
    assert spaces == {"trades", "tickers", "quotes", "candles", "control", "dead-letters"}
