"""`python -m bench.writer_from_memory FILE`: the unchanged quotes writer, fed from memory.

FILE is a pickle of (topic, bytes) pairs. Waits for a line on stdin before it starts.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from consumers.quote_hours import Hours
from consumers.subscription import Message, Subscription
from consumers.writer import Writer
from pipeline.core.health import HealthServer
from pipeline.core.programs import BY_NAME
from pipeline.core.runtime import Stop


class MemorySubscription(Subscription):
    """Delivers the messages of a list as fast as they are read."""

    def __init__(self, messages: list[tuple[str, bytes]], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._messages: Iterator[Message] = iter([Message(topic, data, None) for topic, data in messages])

    def open(self) -> bool:
        sys.stdin.readline()
        return True

    def receive(self, timeout_ms: int) -> Message | None:
        message = next(self._messages, None)
        if message is None:
            self._stop.wait(timeout_ms / 1000)
        return message

    def renew(self) -> bool:
        return True

    def settle(self) -> None:
        pass


def main() -> int:
    messages = pickle.loads(Path(sys.argv[1]).read_bytes())
    stop = Stop().listen()
    writer = Writer("quotes-writer", [Hours()], stop, subscription=partial(MemorySubscription, messages))
    HealthServer("quotes-writer", BY_NAME["quotes-writer"].port, writer.state.report)
    return writer.run()


if __name__ == "__main__":
    sys.exit(main())
