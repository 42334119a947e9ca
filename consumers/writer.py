"""The loop that all writers share: receive, check, store in one transaction, acknowledge.

A writer has a lane per namespace, with a reading thread, a subscription, a database connection and letters of its own,
so that what holds up one holds up no other. Acknowledged is what was committed and whose dead letters the broker has
confirmed. Whatever else happens, a message comes again, and the ledger decides that it is not new.
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
from consumers.post import Post
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

STORED = Counter("writer_rows_stored", "Rows stored, without those that were stored before", ["namespace"])
SEEN = Counter("writer_rows_received", "Rows received", ["namespace"])
BATCH_SECONDS = Histogram("writer_batch_seconds", "Time to store one batch", ["namespace"])
LAST_COMMIT = Gauge("writer_last_commit_timestamp_seconds", "When a batch was last committed")


class Lane(threading.Thread):
    """One namespace from its topics to its tables."""

    def __init__(
        self, sink: Sink, subscription: Subscription, store: Store, post: Post, state: LaneState, stop: threading.Event
    ) -> None:
        super().__init__(name=f"store-{sink.namespace}", daemon=True)
        self._namespace = sink.namespace
        self._store, self._post, self._stop_event = store, post, stop
        self._subscription = subscription
        self.state = state
        state.subscription = lambda: subscription.trouble
        self._handover: queue.Queue[Ready] = queue.Queue(maxsize=1)
        self._idle = threading.Event()  # nothing is handed over, nothing is being stored
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
                    continue
                self._one(ready)
                if self._handover.empty():
                    self._idle.set()
        except Stopping:
            pass  # what is not acknowledged comes again
        except BaseException as error:
            if not (isinstance(error, Unavailable) and self._stop_event.is_set()):
                self.state.failure = error
        finally:
            self._store.close()

    def _one(self, ready: Ready) -> None:
        """Store, publish the letters, acknowledge: in this order."""
        began = time.monotonic()
        self.state.begin()
        batch = ready.batch
        rows, refused = self._store.store(batch.parts, ready.prepared, ready.error)
        STORED.labels(self._namespace).inc(rows)
        get_logger().debug(events.BATCH_STORED, namespace=self._namespace, rows=batch.rows, new=rows)
        if batch.letters or refused:
            self._post.send(self._namespace, [*batch.letters, *refused])
        batch.subscription.acknowledge(batch.last_of_topic)
        SEEN.labels(self._namespace).inc(batch.rows)
        BATCH_SECONDS.labels(self._namespace).observe(time.monotonic() - began)
        LAST_COMMIT.set_to_current_time()
        self.state.committed()

    def end(self) -> None:
        """Wait for both threads, but not for ever: they are daemons."""
        self.join(3)
        self._reader.join(3)
        self._subscription.close()


class Writer:
    """A lane for each kind. `careful`: how often this program died of late, see `consumers.limits`."""

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
        self._make_inbox = subscription
        self._settings = load(PulsarSettings)
        self.bus = Bus(self._settings, stop)
        self._lanes = [self._lane(name, sink, careful) for sink in sinks]
        self.state = WriterState(self._settings, [lane.state for lane in self._lanes], stop)
        self.running = False

    def _lane(self, name: str, sink: Sink, careful: int) -> Lane:
        state = LaneState(sink.namespace)
        subscription = self._make_inbox(
            self._settings, sink.namespace, self._stop, schema=sink.schema, whole=not sink.divisible, careful=careful
        )
        store = Store(name, load(DatabaseSettings), sink, state, self._stop)
        return Lane(sink, subscription, store, Post(name, self.bus, state, self._stop), state, self._stop)

    def run(self) -> int:
        """Until stopped. Raises what ended a lane: with some of its namespaces a program would look well."""
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
                lane.end()
            self.bus.close()
            self.running = False
        return 0


def run(name: str, sinks: Sequence[Sink], further: Sequence[Callable[[], str | None]] = ()) -> int:
    """What `python -m consumers.<sink>` does: wait for the services, serve /health, store until stopped.

    `further`: what else may not be well in this program, for `/health`.
    """
    # A batch is tens of thousands of small objects that are no garbage. With the collector's usual thresholds it walked
    # them again and again: reading a message of one trade cost 10 us of processor time, so 6 us.
    gc.set_threshold(100_000, 50, 1_000)
    stop = Stop().listen()
    limits.bound_memory(load(LimitSettings).writer_memory_mb)
    life = limits.Life(load(CommonSettings).state_dir, name)
    writer = Writer(name, sinks, stop, careful=life.deaths)
    writer.state.further += further
    health = HealthServer(name, BY_NAME[name].port, writer.state.report)
    get_logger().info(events.STARTED, health_port=health.port)
    bootstrap.broker_when_ready(load(PulsarSettings), stop)
    database_when_ready(load(DatabaseSettings), stop)
    if life.deaths >= limits.LOOK_AFTER and not stop.is_set():
        limits.set_aside(name, sinks, writer.bus, stop)
    code = writer.run()
    life.end()
    get_logger().info(events.STOPPED)
    return code
