"""Types shared by all sinks: message slices, prepared batches, dead letters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from consumers.subscription import Message, Subscription
from pipeline.core.errors import BadData
from pipeline.core.runtime import now_us
from pipeline.core.text import printable
from pipeline.database.connection import Connection

# Rows of one message that get a letter each; the others share one: a message of 1 MB can have 150,000 bad rows.
MOST_LETTERS = 100
# Bytes of a letter's payload. The broker's limit is 5 MB, and a refused hour may be larger.
MOST_PAYLOAD = 1 << 20
MOST_DETAIL = 900


@dataclass(frozen=True)
class DeadLetter:
    """A dead letter: row `row` of `message` (None: the whole message) was refused for `reason`, one word."""

    message: Message
    reason: str
    detail: str
    row: int | None = None
    content: Any = None  # the row's content; None: the message's bytes

    def record(self, source: str) -> dict[str, Any]:
        """Return the record of `dead_letter.avsc`; long texts and payloads are truncated. `source`: the program."""
        payload = self.message.data if self.content is None else json.dumps(self.content, default=_jsonable).encode()
        detail = printable(self.detail[:MOST_DETAIL])
        if len(payload) > MOST_PAYLOAD:
            detail += f" (the first {MOST_PAYLOAD:,} of {len(payload):,} bytes)"
            payload = payload[:MOST_PAYLOAD]
        return {
            "source": source,
            "topic": self.message.topic,
            "message_id": self.message.id_text,
            "row": self.row,
            "reason": self.reason,
            "detail": detail,
            "payload": payload,
            "at_us": now_us(),
        }


def _jsonable(value: Any) -> Any:
    return msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else str(value)


class DeadLetters:
    """The letters of a batch: up to `MOST_LETTERS` per message, plus one that counts the others by reason."""

    def __init__(self) -> None:
        self._kept: list[DeadLetter] = []
        self._count: Counter[int] = Counter()
        self._more: dict[int, tuple[Message, Counter[str]]] = {}

    def add(self, message: Message, reason: str, detail: str, row: int | None = None, content: Any = None) -> None:
        key = id(message)  # the messages of a batch live as long as its letters
        if self._count[key] < MOST_LETTERS:
            self._count[key] += 1
            self._kept.append(DeadLetter(message, reason, detail, row, content))
        else:
            self._more.setdefault(key, (message, Counter()))[1][reason] += 1

    def extend(self, more: DeadLetters | Iterable[DeadLetter]) -> None:
        """Add all of `more`, within the same limits."""
        for letter in more._kept if isinstance(more, DeadLetters) else more:
            self.add(letter.message, letter.reason, letter.detail, letter.row, letter.content)
        for message, reasons in more._more.values() if isinstance(more, DeadLetters) else ():
            self._more.setdefault(id(message), (message, Counter()))[1].update(reasons)

    def __iter__(self) -> Iterator[DeadLetter]:
        yield from self._kept
        for message, reasons in self._more.values():
            (most, _), *_ = reasons.most_common(1)
            why = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common(10))
            yield DeadLetter(message, most, f"{reasons.total():,} more rows of this message were refused: {why}")

    def __bool__(self) -> bool:
        return bool(self._kept)


class PreparedBatch(Protocol):
    """Checked rows of a batch, ready for the database.

    Created by `Sink.prepare` in the reading thread, then used by the storing thread only.
    """

    letters: DeadLetters
    """Rows that failed the checks."""

    rows: int
    """Rows to store."""

    def refuse(self, reason: str, detail: str) -> None:
        """Turn all rows into letters, because the database refused them. Afterwards `rows` is 0."""
        ...

    def store(self, conn: Connection) -> WriteResult:
        """Write everything in one transaction. May be called again after it raised; nothing is stored then."""
        ...


@dataclass
class WriteResult:
    """The result of a transaction."""

    rows: int = 0
    letters: list[DeadLetter] = field(default_factory=list)  # rows that contradict what is stored


class LeftOut(Exception):
    """A table took fewer rows than it was given, because a trigger of somebody's left some out: nothing of the
    transaction may stay, else the ledger accounts for rows that are nowhere."""


def all_taken(given: int, taken: int) -> None:
    """Raise `LeftOut` unless all rows were taken."""
    if taken != given:
        raise LeftOut(f"the table took {taken:,} of {given:,} rows: a trigger leaves some out")


class Sink(Protocol):
    """Turns the messages of one namespace into rows. `read` and `prepare` run in the reading thread, and in the storing
    thread while a refused batch is halved."""

    namespace: str
    schema: str
    divisible: bool
    """Whether a message may be stored in parts if the database refuses one of its rows."""

    def read(self, message: Message) -> tuple[Any, int]:
        """Return the decoded message and its number of rows. Raises `BadData` to refuse the whole message."""
        ...

    def read_all(self, messages: Sequence[Message], letters: DeadLetters) -> list[MessageSlice]:
        """Read all messages of a batch; refused ones become letters."""
        ...

    def hold(self, parts: Sequence[MessageSlice]) -> list[MessageSlice]:
        """Return the parts to hold back, because they are better stored with the next ones if those arrive soon: of
        each topic its last parts, or none."""
        ...

    def prepare(self, parts: Sequence[MessageSlice]) -> PreparedBatch:
        """Check and convert the rows of a batch; bad rows become letters."""
        ...


def hold_nothing(parts: Sequence[MessageSlice]) -> list[MessageSlice]:
    """Implement `Sink.hold` for a sink that never holds back parts."""
    return []


def read_each(
    read: Callable[[Message], tuple[Any, int]], messages: Sequence[Message], letters: DeadLetters
) -> list[MessageSlice]:
    """Read messages one by one; refused ones become letters."""
    parts: list[MessageSlice] = []
    for message in messages:
        try:
            record, rows = read(message)
        except BadData as error:
            letters.add(message, error.reason, str(error))
        except Exception as error:  # a value that no check covers
            letters.add(message, "writer", f"{type(error).__name__}: {error}")
        else:
            parts.append(MessageSlice(message, record, 0, rows))
    return parts


class MessageSlice(msgspec.Struct, gc=False):
    """Rows `first..end` (end exclusive) of a message: all of them, except while a refused batch is halved."""

    message: Message
    record: Any
    first: int
    end: int


@dataclass
class Batch:
    """Messages received together, and where to acknowledge them."""

    subscription: Subscription
    messages: int = 0
    parts: list[MessageSlice] = field(default_factory=list)
    letters: DeadLetters = field(default_factory=DeadLetters)  # messages refused whole
    last_of_topic: dict[str, Message] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows received; a message that was refused, or has no rows, counts as one."""
        return sum(part.end or 1 for part in self.parts) + self.messages - len(self.parts)
