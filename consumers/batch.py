"""What goes through a writer: messages, the rows made of them, and the letters about what was refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from consumers.inbox import Inbox, Message
from pipeline.database import Connection
from pipeline.process import now_us


@dataclass(frozen=True)
class Letter:
    """A dead letter: row `row` of `message` (None: all of it) was refused for `reason`."""

    message: Message
    reason: str
    detail: str
    row: int | None = None
    content: Any = None  # of the row, for the reader; None: the message's bytes

    def record(self, source: str) -> dict[str, Any]:
        payload = self.message.data if self.content is None else json.dumps(self.content, default=str).encode()
        return {
            "source": source, "topic": self.message.topic, "message_id": self.message.id_text, "row": self.row,
            "reason": self.reason, "detail": self.detail[:1000], "payload": payload, "at_us": now_us(),
        }  # fmt: skip


class Prepared(Protocol):
    """Checked rows of a batch, ready for the database."""

    letters: list[Letter]
    """Rows that were refused when they were checked."""

    rows: int
    """Rows to store."""

    def refuse(self, reason: str, detail: str) -> None:
        """The database refused this single row or message: turn it into a letter; `store` then notes only that."""
        ...

    def store(self, conn: Connection) -> Stored:
        """Write everything in one transaction. May be called again after a failure."""
        ...


@dataclass
class Stored:
    """What a transaction did."""

    rows: int = 0
    letters: list[Letter] = field(default_factory=list)  # rows that contradict what is stored


class Kind(Protocol):
    """How one namespace's messages become rows."""

    namespace: str
    divisible: bool
    """Whether a message may be stored in parts, when the database refuses one of its rows."""

    def read(self, message: Message) -> tuple[Any, int]:
        """The decoded message and how many rows it holds. Raises `BadData` when it is refused whole."""
        ...

    def prepare(self, parts: Sequence[Part]) -> Prepared:
        """Check and convert the rows of a batch."""
        ...


@dataclass(slots=True)  # not frozen: see Message
class Part:
    """Rows `first..end` of a message (all of them, but while a refused batch is being halved)."""

    message: Message
    record: Any
    first: int
    end: int


@dataclass
class Batch:
    """Messages received together, with where to acknowledge them."""

    inbox: Inbox
    parts: list[Part] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)  # messages refused whole
    last_of_topic: dict[str, Message] = field(default_factory=dict)
    rows: int = 0
