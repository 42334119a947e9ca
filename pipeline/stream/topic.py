"""Read one topic in a thread, from a given time on, reconnecting forever.

Readers are not durable and acknowledge nothing, so watching never retains data on the broker. The broker would create a
topic that a reader asks for, so the admin interface is asked first whether it exists.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import pulsar

from pipeline.broker.admin import Admin
from pipeline.core import events
from pipeline.core.errors import PipelineError, Refused
from pipeline.core.log import get_logger
from pipeline.core.settings import PulsarSettings

RETRY_S = 2.0
# Messages waiting in the client: hours of quotes have some MB, the others some hundred bytes.
QUEUES = {"quotes": 10}
QUEUE = 200


class ReadAgain(Exception):
    """Raised by `on_message`: read the topic again from `start_ms` on."""


class TopicReader:
    """Calls `on_message` for each message, `on_link` when it is connected or disconnected, and `on_quiet` when it has
    read everything, in its own thread.

    `start_ms` returns, at each connection, the publish time from which to read (ms since 1970).
    """

    def __init__(
        self,
        client: pulsar.Client,
        settings: PulsarSettings,
        topic: str,
        start_ms: Callable[[], int],
        on_message: Callable[[pulsar.Message], None],
        on_link: Callable[[bool], None],
        on_quiet: Callable[[], None] = lambda: None,
    ) -> None:
        self.topic = topic
        self._client, self._settings, self._start_ms = client, settings, start_ms
        self._on_message, self._on_link, self._on_quiet = on_message, on_link, on_quiet
        self._namespace = "/".join(topic.removeprefix("persistent://").split("/")[:2])
        self._queue = QUEUES.get(self._namespace.rpartition("/")[2], QUEUE)
        self._up: bool | None = None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"feed-{topic.rsplit('/', 1)[-1]}", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        """Ask the thread to end; returns at once. It ends within half a second, or with the client if the broker is
        away."""
        self.stopping.set()

    def _run(self) -> None:
        while not self.stopping.is_set():
            try:
                if self._exists():
                    self._connect()
                else:
                    self._set_link(False)
            except ReadAgain:
                continue
            except (pulsar.PulsarException, PipelineError) as error:
                self._set_link(False)
                get_logger().warning(events.BROKER_RETRY, on=self.topic, error=str(error), retry_in_s=RETRY_S)
            self.stopping.wait(RETRY_S)

    def _set_link(self, up: bool) -> None:
        if self._up != up:
            self._up = up
            self._on_link(up)

    def _connect(self) -> None:
        reader = self._client.create_reader(self.topic, pulsar.MessageId.latest, receiver_queue_size=self._queue)
        try:
            reader.seek(self._start_ms())
            while not self.stopping.is_set():
                self._set_link(reader.is_connected())
                try:
                    message = reader.read_next(timeout_millis=500)
                except pulsar.Timeout:
                    if reader.is_connected():
                        self._on_quiet()
                else:
                    self._on_message(message)
        finally:
            with contextlib.suppress(pulsar.PulsarException):  # already closed
                reader.close()

    def _exists(self) -> bool:
        """Return whether the topic exists. Raises `Unavailable`, `WrongUse`."""
        try:
            return self.topic in Admin(self._settings).topics(self._namespace)  # one session per thread
        except Refused as error:
            return ": 404 " not in str(error)  # 404: no such namespace; without permission to list, assume it exists
