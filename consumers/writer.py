"""The loop shared by all writers: receive, check, store in one transaction, acknowledge.

A writer has one lane per namespace, with its own reading thread, subscription, database connection and dead letters, so
that lanes do not hold each other up. A message is acknowledged once its rows are committed and its dead letters are
confirmed. Otherwise it is delivered again, and the ledger recognizes what is already stored.
"""

from __future__ import annotations

import gc
import queue
import threading
import time
from collections.abc import Callable, Sequence

from prometheus_client import Counter, Gauge, Histogram

from consumers import limits
from consumers.health import LaneState, WriterState
from consumers.letter_publisher import LetterPublisher
from consumers.reader import Reader, Ready
from consumers.sink import Sink
from consumers.store import Stopping, Store
from consumers.subscription import Subscription
from pipeline.broker import bootstrap
from pipeline.broker.client import Bus
from pipeline.core import events
from pipeline.core.errors import Unavailable
from pipeline.core.health import HealthServer
from pipeline.core.log import get_logger
from pipeline.core.programs import BY_NAME
from pipeline.core.runtime import Stop
from pipeline.core.settings import CommonSettings, DatabaseSettings, LimitSettings, PulsarSettings, load
from pipeline.database.migrate import database_when_ready

STORED = Counter("writer_rows_stored", "New rows stored", ["namespace"])
RECEIVED = Counter("writer_rows_received", "Rows received", ["namespace"])
BATCH_SECONDS = Histogram("writer_batch_seconds", "Time to store one batch", ["namespace"])
LAST_COMMIT = Gauge("writer_last_commit_timestamp_seconds", "When a batch was last committed")


class Lane(threading.Thread):
    """One namespace, from its topics to its tables: the storing thread, which starts the reading one."""

    def __init__(
        self,
        sink: Sink,
        subscription: Subscription,
        store: Store,
        letters: LetterPublisher,
        state: LaneState,
        stop: threading.Event,
    ) -> None:
        super().__init__(name=f"store-{sink.namespace}", daemon=True)
        self._namespace = sink.namespace
        self._stored, self._received = STORED.labels(sink.namespace), RECEIVED.labels(sink.namespace)
        self._seconds = BATCH_SECONDS.labels(sink.namespace)
        self._store, self._letters, self._stop_event = store, letters, stop
        self._subscription = subscription
        self.state = state
        state.subscription = lambda: subscription.trouble
        state.recover = subscription.recover
        self._handover: queue.Queue[Ready] = queue.Queue(maxsize=1)
        self._idle = threading.Event()  # set while nothing is handed over or being stored
        self._idle.set()
        self._reader = Reader(subscription, sink, self._handover, self._idle, stop)

    def run(self) -> None:
        self._reader.start()
        try:
            while not self._stop_event.is_set():
                if self._reader.failure is not None:
                    raise self._reader.failure
                try:
                    ready = self._handover.get(timeout=0.2)
                except queue.Empty:
                    self._subscription.settle()
                    continue
                self._store_batch(ready)
                if self._handover.empty():
                    self._idle.set()
        except Stopping:
            pass  # what is not acknowledged is delivered again
        except BaseException as error:
            if not (isinstance(error, Unavailable) and self._stop_event.is_set()):
                self.state.failure = error
        finally:
            self._subscription.settle()
            self._store.close()

    def _store_batch(self, ready: Ready) -> None:
        """Store the rows, publish the dead letters, acknowledge the messages: in this order."""
        began = time.monotonic()
        self.state.begin()
        batch = ready.batch
        rows, refused = self._store.store(batch.parts, ready.prepared, ready.error)
        self._stored.inc(rows)
        get_logger().debug(events.BATCH_STORED, namespace=self._namespace, rows=batch.rows, new=rows)
        if batch.letters or refused:
            self._letters.send(self._namespace, [*batch.letters, *refused])
        batch.subscription.acknowledge(batch.last_of_topic)
        self._received.inc(batch.rows)
        self._seconds.observe(time.monotonic() - began)
        LAST_COMMIT.set_to_current_time()
        self.state.committed()

    def close(self) -> None:
        """Wait up to 3 s for each of the two threads, which are daemons, then close the subscription."""
        self.join(3)
        self._reader.join(3)
        self._subscription.close()


class Writer:
    """One lane per sink. `careful`: number of preceding crashes, see `consumers.limits`."""

    def __init__(
        self,
        name: str,
        sinks: Sequence[Sink],
        stop: threading.Event,
        *,
        careful: int = 0,
        subscription: Callable[..., Subscription] = Subscription,
    ) -> None:
        self._stop = stop
        self._make_subscription = subscription
        self._settings = load(PulsarSettings)
        self.bus = Bus(self._settings, stop)
        self._lanes = [self._lane(name, sink, careful) for sink in sinks]
        self.state = WriterState(self._settings, [lane.state for lane in self._lanes], stop)
        self.running = False

    def _lane(self, name: str, sink: Sink, careful: int) -> Lane:
        state = LaneState(sink.namespace)
        subscription = self._make_subscription(
            self._settings, sink.namespace, self._stop, schema=sink.schema, whole=not sink.divisible, careful=careful
        )
        store = Store(name, load(DatabaseSettings), sink, state, self._stop)
        letters = LetterPublisher(name, self.bus, state, self._stop)
        return Lane(sink, subscription, store, letters, state, self._stop)

    def run(self) -> int:
        """Run until stopped. Raises the error that ended a lane: a writer without one of its lanes would look
        healthy."""
        self.running = True
        for lane in self._lanes:
            lane.start()
        self.state.start()
        try:
            while not self._stop.wait(0.2):
                for lane in self._lanes:
                    if lane.state.failure is not None:
                        raise lane.state.failure
                    if not lane.is_alive() and not self._stop.is_set():
                        raise RuntimeError(f"{lane.name} has ended")
        finally:
            self._stop.set()
            for lane in self._lanes:
                lane.close()
            self.bus.close()
            self.running = False
        return 0


def run(name: str, sinks: Sequence[Sink], checks: Sequence[Callable[[], str | None]] = ()) -> int:
    """Run a writer: serve `/health`, wait for broker and database, store until stopped; returns the exit code.

    `checks`: additional checks for `/health`; each returns a problem, or None.
    """
    # A batch has tens of thousands of small live objects, which the garbage collector traverses repeatedly with its
    # default thresholds. Measured: reading a message of one trade took 10 us of CPU time, with these 6 us.
    gc.set_threshold(100_000, 50, 1_000)
    stop = Stop().listen()
    limits.bound_memory(load(LimitSettings).writer_memory_mb)
    crashes = limits.CrashCount(load(CommonSettings).state_dir, name)
    writer = Writer(name, sinks, stop, careful=crashes.deaths)
    writer.state.checks += checks
    health = HealthServer(name, BY_NAME[name].port, writer.state.report)
    get_logger().info(events.STARTED, health_port=health.port)
    bootstrap.broker_when_ready(load(PulsarSettings), stop)
    database_when_ready(load(DatabaseSettings), stop)
    if crashes.deaths >= limits.SCOUT_AFTER and not stop.is_set():
        limits.set_aside(name, sinks, writer.bus, stop)
    code = writer.run()
    crashes.clear()
    get_logger().info(events.STOPPED)
    return code
