"""All writers in the test's own process, and a stranger's producer for each kind of topic."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pulsar

import schemas
from consumers.candles import Candles
from consumers.quote_hours import Hours
from consumers.subscription import SUBSCRIPTION
from consumers.tickers import Tickers
from consumers.trades import Trades
from consumers.writer import Writer
from pipeline.broker.admin import Admin
from pipeline.broker.client import Bus
from pipeline.broker.topics import full_name, topic_of
from pipeline.verify import verify
from tests import hostile
from tests.messages import trade, trades_record

NAMES = tuple(hostile.BASE)


def until(condition: Callable[[], Any], timeout_s: float = 180) -> Any:
    """Wait for a condition; the time bound only ends a test that would hang."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.05)
    return value


class Raw(schemas.RegisteredSchema):
    """Claims the right schema and sends whatever it is given."""

    def encode(self, obj: Any) -> bytes:
        return bytes(obj)


class Rig:
    """The writers and the strangers' producers; `conn` asks the database."""

    def __init__(self, bus: Bus, conn: Any, stop: threading.Event) -> None:
        self.conn, self._tenant, self.client = conn, bus.settings.tenant, bus.client
        self.admin = Admin(bus.settings)
        self.writer = Writer("trades-writer", [Trades(), Hours(), Tickers(), Candles()], stop)
        self.ended: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._producers = {name: self.client.create_producer(self.topic(name), schema=Raw(name)) for name in NAMES}
        self._sent: Counter[str] = Counter()

    def _run(self) -> None:
        try:
            self.writer.run()
        except BaseException as error:
            self.ended = error
            raise

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(15)

    def topic(self, name: str) -> str:
        return topic_of(self._tenant, hostile.NAMESPACE[name], hostile.VENUE[name], hostile.PRODUCT[name])

    def send(self, name: str, data: bytes) -> None:
        self._producers[name].send_async(data, lambda *_: None)

    def send_good(self, name: str) -> None:
        self.send(name, hostile.good(name, self._sent[name]))
        self._sent[name] += 1

    def one(self, query: str) -> Any:
        row = self.conn.execute(query).fetchone()
        return row and row[0]

    def settled(self) -> None:
        """Every good message is stored and nothing waits."""
        for name in NAMES:
            self._producers[name].flush()
        for name, sent in self._sent.items():
            until(lambda name=name, sent=sent: self.ended or self.one(hostile.STORED[name]) == sent)
            until(lambda name=name: self.ended or self.admin.backlog(self.topic(name), SUBSCRIPTION).messages == 0)
        assert self.ended is None

    def letters(self) -> list[dict[str, Any]]:
        topic = full_name(self._tenant, "dead-letters", "trades-writer")
        reader = self.client.create_reader(topic, pulsar.MessageId.earliest, schema=schemas.registered("dead_letter"))
        found = []
        while reader.has_message_available():
            found.append(reader.read_next(5000).value())
        reader.close()
        return found

    def readable(self) -> None:
        """What people ask still answers."""
        assert self.conn.execute("SELECT * FROM completeness").fetchall()
        assert verify(self.conn)


def publish(bus: Bus, product: str, *ids: int, price: str = "5") -> None:
    publisher = bus.publisher("trades", "kraken", product, "trades", f"test-{ids[0]}")
    publisher.send(trades_record([trade(i, price=price) for i in ids], product=product))
    assert publisher.flush(30)
    publisher.close()


def ids_of(rig: Rig, product: str) -> Any:
    return rig.one(
        "SELECT array_agg(trade_id::int ORDER BY trade_id) FROM trades JOIN instruments USING (instrument_id)"
        f" WHERE product_id = '{product}' AND trade_id < 1000"
    )
