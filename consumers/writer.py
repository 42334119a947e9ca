"""The loop that all writers share: receive, check, store in one transaction, acknowledge.

A reading thread per namespace receives, decodes and checks the next batch while the database works on the present
one. Acknowledged is what was committed and whose dead letters the broker has confirmed. Whatever else happens, a
message comes again, and the ledger decides that it is not new.
"""

from __future__ import annotations

import gc
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from prometheus_client import Counter, Gauge, Histogram

from consumers.batch import Batch, Kind, Letter, Part, Prepared, Stored
from consumers.inbox import Inbox, Message
from consumers.state import WriterState
from pipeline import bootstrap, events
from pipeline.bus import Bus
from pipeline.database import POISON, Connection, connect_when_ready, retryable
from pipeline.errors import BadData, Unavailable
from pipeline.health import HealthServer
from pipeline.log import get_logger
from pipeline.migrate import database_when_ready
from pipeline.process import Stop
from pipeline.programs import BY_NAME
from pipeline.publisher import Publisher
from pipeline.settings import DatabaseSettings, PulsarSettings, load
from pipeline.topics import full_name

# A batch is handed over when the database is idle, at the latest with this many rows. With hours of quotes 5 k, 30 k
# and 100 k rows (348, 327, 406 k quotes/s on a busy machine) did not differ beyond its spread; larger ones take memory.
BATCH_ROWS = 30_000
# The same for messages of single rows, which are Python objects until they are columns: three batches are on their way.
# A backlog of 1 M trades over 20 topics: 10,000 rows 215 MB, 6,000 190 and 195, 5,000 160 and 186, at the same speed.
BATCH_SMALL_ROWS = 5_000
BATCH_BYTES = 16 << 20
# Topics that come together cost few subscriptions.
SUBSCRIBE_EVERY_S = 0.1
# A new topic is waited for no longer than this while nothing comes.
IDLE_MS = 20

STORED = Counter("writer_rows_stored", "Rows stored, without those that were stored before", ["namespace"])
SEEN = Counter("writer_rows_received", "Rows received", ["namespace"])
LETTERS = Counter("writer_dead_letters", "Rows and messages refused", ["namespace", "reason"])
BATCH_SECONDS = Histogram("writer_batch_seconds", "Time to store one batch", ["namespace"])
LAST_COMMIT = Gauge("writer_last_commit_timestamp_seconds", "When a batch was last committed")


class _Stopping(Exception):
    """The program ends before a batch was stored: nothing of it may be acknowledged."""


@dataclass
class _Ready:
    batch: Batch
    prepared: Prepared


class Reader(threading.Thread):
    """Fills `handover` with checked batches of one kind."""

    def __init__(
        self, inbox: Inbox, kind: Kind, handover: queue.Queue[_Ready], idle: threading.Event, stop: threading.Event
    ) -> None:
        super().__init__(name=f"read-{kind.namespace}", daemon=True)
        self._inbox = inbox
        self._kind = kind
        self._handover = handover
        self._idle = idle
        self._stop_event = stop
        self._subscribed = -SUBSCRIBE_EVERY_S
        self._new_topics = False
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            if self._inbox.open():
                while not self._stop_event.is_set():
                    self._look_for_topics()
                    self._one_batch()
        except BaseException as error:
            self.failure = error
            raise

    def _one_batch(self) -> None:
        """Hand over what comes."""
        batch = Batch(self._inbox)
        most = BATCH_SMALL_ROWS if self._kind.divisible else BATCH_ROWS
        first = self._inbox.receive(IDLE_MS)
        if first is None:
            return
        size = self._add(batch, [first])
        while batch.rows < most and size < BATCH_BYTES and not self._stop_event.is_set():
            more = self._inbox.receive_more()
            size += self._add(batch, more)
            # Not only when nothing came: an unbroken stream of single messages would be held until the batch is full.
            if len(more) < self._inbox.chunk and self._idle.is_set():
                break
        ready = _Ready(batch, self._kind.prepare(batch.parts))
        self._idle.clear()
        while not self._stop_event.is_set():
            with suppress(queue.Full):
                self._handover.put(ready, timeout=0.2)
                return

    def _add(self, batch: Batch, messages: list[Message]) -> int:
        """Decode; returns how many bytes they are."""
        size = 0
        for message in messages:
            size += len(message.data)
            batch.last_of_topic[message.topic] = message
            try:
                record, rows = self._kind.read(message)
                batch.parts.append(Part(message, record, 0, rows))
                batch.rows += rows or 1
            except BadData as error:
                batch.letters.append(Letter(message, error.reason, str(error)))
        return size

    def _look_for_topics(self) -> None:
        self._new_topics |= self._inbox.new_topics()
        now = time.monotonic()
        if self._new_topics and now - self._subscribed > SUBSCRIBE_EVERY_S:
            self._new_topics, self._subscribed = False, now
            self._inbox.subscribe_again()


class Writer:
    """Stores what the readers hand over, on one database connection."""

    def __init__(self, name: str, kinds: Sequence[Kind], stop: threading.Event) -> None:
        self._name = name
        self._stop = stop
        self._pulsar = load(PulsarSettings)
        self._database = load(DatabaseSettings)
        self._conn: Connection | None = None
        self._bus = Bus(self._pulsar, stop)
        self._letters: Publisher | None = None
        self._handover: queue.Queue[_Ready] = queue.Queue(maxsize=1)
        self._idle = threading.Event()  # nothing is handed over, nothing is being stored
        self._idle.set()
        self._kinds = {kind.namespace: kind for kind in kinds}
        self._readers = [
            Reader(Inbox(self._pulsar, k.namespace, stop, whole=not k.divisible), k, self._handover, self._idle, stop)
            for k in kinds
        ]
        self.state = WriterState(self._pulsar, [k.namespace for k in kinds], stop)
        self.running = False

    def run(self) -> int:
        self.running = True
        for reader in self._readers:
            reader.start()
        self.state.start()
        try:
            while not self._stop.is_set():
                if broken := next((r.failure for r in self._readers if r.failure), None):
                    raise broken
                try:
                    ready = self._handover.get(timeout=0.2)
                except queue.Empty:
                    continue
                self._one(ready)
                if self._handover.empty():
                    self._idle.set()
        except _Stopping:
            pass  # what is not acknowledged comes again
        except Unavailable:
            if not self._stop.is_set():
                raise
        finally:
            self._stop.set()
            for reader in self._readers:
                reader.join(3)
            self._bus.close()
            if self._conn:
                self._conn.close()
            self.running = False
        return 0

    def _one(self, ready: _Ready) -> None:
        """Store, publish the letters, acknowledge: in this order."""
        namespace = ready.batch.inbox.namespace
        began = time.monotonic()
        letters = [*ready.batch.letters, *ready.prepared.letters, *self._store(ready, namespace)]
        if letters:
            self._send(namespace, letters)
        ready.batch.inbox.acknowledge(ready.batch.last_of_topic)
        SEEN.labels(namespace).inc(ready.batch.rows)
        BATCH_SECONDS.labels(namespace).observe(time.monotonic() - began)
        LAST_COMMIT.set_to_current_time()
        self.state.committed()

    def _store(self, ready: _Ready, namespace: str) -> list[Letter]:
        """Write the batch, however often it takes; returns the rows that the database refused."""
        try:
            stored = self._persist(ready.prepared)
        except POISON as error:
            get_logger().warning(events.BATCH_SPLIT, namespace=namespace, rows=ready.batch.rows, error=str(error))
            return self._halve(self._kinds[namespace], ready.batch.parts, error)
        STORED.labels(namespace).inc(stored.rows)
        get_logger().debug(events.BATCH_STORED, namespace=namespace, rows=ready.batch.rows, new=stored.rows)
        return stored.letters

    def _halve(self, kind: Kind, parts: Sequence[Part], error: Exception) -> list[Letter]:
        """Store all rows but those that the database refuses. Their messages were checked before, so this is rare."""
        if len(parts) > 1:
            halves = [parts[: len(parts) // 2], parts[len(parts) // 2 :]]
        elif kind.divisible and parts and parts[0].end - parts[0].first > 1:
            part = parts[0]
            middle = (part.first + part.end) // 2
            halves = [
                [Part(part.message, part.record, part.first, middle)],
                [Part(part.message, part.record, middle, part.end)],
            ]
        else:
            refused = kind.prepare(parts)
            refused.refuse("database", str(error))
            return [*self._persist(refused).letters, *refused.letters]
        letters: list[Letter] = []
        for half in halves:
            try:
                letters += self._persist(kind.prepare(half)).letters
            except POISON as again:
                letters += self._halve(kind, half, again)
        return letters

    def _persist(self, prepared: Prepared) -> Stored:
        """One transaction, tried until it succeeds or the data is to blame. Raises `_Stopping` when it did not."""
        delay = 0.1
        while not self._stop.is_set():
            try:
                if self._conn is None:
                    self._conn = connect_when_ready(self._database, self._name, self._stop)
                stored = prepared.store(self._conn)
                self.state.database_ok = True
                return stored
            except psycopg.Error as error:
                if not retryable(error):
                    raise
                self._lost(error, delay)
            except LookupError as error:
                self._lost(error, delay)
            delay = min(10.0, delay * 2)
        raise _Stopping

    def _lost(self, error: Exception, delay: float) -> None:
        self.state.database_ok = False
        get_logger().warning(
            events.DATABASE_RETRY, error=str(error).strip(), kind=type(error).__name__, retry_in_s=delay
        )
        if self._conn is not None:
            self._conn.close()  # whatever its state: a new one is surely clean
            self._conn = None
        self._stop.wait(delay)

    def _send(self, namespace: str, letters: list[Letter]) -> None:
        """Publish dead letters and wait until the broker has them. Raises `_Stopping` when it has not."""
        if self._letters is None:
            topic = full_name(self._pulsar.tenant, "dead-letters", self._name)
            self._letters = self._bus.publisher_to(topic, "dead_letter", self._name)
        for letter in letters:
            LETTERS.labels(namespace, letter.reason).inc()
            get_logger().warning(
                events.DEAD_LETTER, topic=letter.message.topic, message_id=letter.message.id_text, row=letter.row,
                reason=letter.reason, detail=letter.detail,
            )  # fmt: skip
            if not self._letters.send(letter.record(self._name), wait=True):
                raise _Stopping
        while not self._letters.flush(1.0):
            if self._stop.is_set():
                raise _Stopping


def run(name: str, kinds: Sequence[Kind]) -> int:
    """What `python -m consumers.<kind>` does: wait for the services, serve /health, store until stopped."""
    # A batch is tens of thousands of small objects that are no garbage. With the collector's usual thresholds it walked
    # them again and again: reading a message of one trade cost 10 us of processor time, so 6 us.
    gc.set_threshold(100_000, 50, 1_000)
    stop = Stop().listen()
    writer = Writer(name, kinds, stop)
    health = HealthServer(name, BY_NAME[name].port, writer.state.report)
    get_logger().info(events.STARTED, health_port=health.port)
    bootstrap.broker_when_ready(load(PulsarSettings), stop)
    database_when_ready(load(DatabaseSettings), stop)
    code = writer.run()
    get_logger().info(events.STOPPED)
    return code
