"""Read dead letters from their topics: the newest, one, or all.

Their content is untrusted: JSON 60,000 levels deep, an unpaired surrogate, a number of 5,000 digits, terminal escape
codes. It is sanitized here. `read` starts from the end and is limited in number, bytes and time; `read_all` iterates
over all letters without keeping them.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec
import pulsar

import schemas
from pipeline.broker.admin import Admin
from pipeline.broker.client import new_client
from pipeline.broker.topics import NAMESPACES
from pipeline.core.errors import Refused, Unavailable
from pipeline.core.settings import PulsarSettings
from pipeline.core.text import printable
from pipeline.core.times import END_US, from_us
from schemas.columns import decode_quote_hour

REPLAYED = "replayed"
NAMESPACE = "dead-letters"
SCHEMAS = {space.name: space.schema for space in NAMESPACES if space.schema and space.name != NAMESPACE}
NEWEST = 200
MOST_BYTES = 32 << 20
MOST_S = 5.0
# Larger payloads are shown as bytes: decoded, 1 MB may be 200,000 rows.
DECODED = 64 << 10
_QUEUE = 16  # of 1 MB each at most
_FIRST_STEP = 16  # entries; then four times as many
_DEPTH, _ITEMS, _CHARACTERS = 8, 50, 2_000


@dataclass(frozen=True)
class DeadLetter:
    """A record of `dead_letter.avsc` with its position as `id`: `<program>/<ledger>:<entry>:<batch>`."""

    id: str
    topic: str
    message_id: str
    row: int | None
    reason: str
    detail: str
    payload: bytes
    at_us: int  # according to the letter
    published_us: int  # according to the broker, which cannot be forged
    replayed: bool = False

    @property
    def source(self) -> str:
        return self.id.split("/", 1)[0]

    @property
    def at(self) -> datetime:
        return from_us(min(max(self.at_us, 0), END_US))

    @property
    def namespace(self) -> str:
        """Namespace of the row's topic; empty if it came from a venue."""
        parts = self.topic.removeprefix("persistent://").split("/")
        return parts[1] if self.topic.startswith("persistent://") and len(parts) == 3 else ""

    @property
    def content(self) -> Any:
        """The payload for display: the row, the decoded message, or the first bytes. JSON-serializable."""
        if len(self.payload) <= DECODED:
            with contextlib.suppress(Exception):  # whatever a decoder raises on foreign bytes
                return sanitized(json.loads(self.payload))
            with contextlib.suppress(Exception):
                schema = SCHEMAS[self.namespace]
                return sanitized(
                    msgspec.to_builtins(decode_quote_hour(self.payload).header)
                    if schema == "quotes"
                    else schemas.decode(schema, self.payload)
                )
        return repr(self.payload[:400])


def sanitized(value: Any, depth: int = _DEPTH) -> Any:
    """Return `value` sanitized for any JSON reader and terminal: limited depth, length and size, and printable."""
    if isinstance(value, dict) and depth:
        return {printable(str(k)[:100]): sanitized(v, depth - 1) for k, v in list(value.items())[:_ITEMS]}
    if isinstance(value, list | tuple) and depth:
        more = [f"... {len(value) - _ITEMS:,} more"] if len(value) > _ITEMS else []
        return [*(sanitized(item, depth - 1) for item in value[:_ITEMS]), *more]
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 1 << 63):
        return value
    if isinstance(value, dict | list | tuple):
        return "..."
    return printable(str(value)[:_CHARACTERS])


def topics(settings: PulsarSettings) -> list[str]:
    """Return the full names of the topics with dead letters. Raises `Unavailable`."""
    try:
        return Admin(settings).parts(f"{settings.tenant}/{NAMESPACE}")
    except Refused:  # no such namespace yet
        return []


def read(
    settings: PulsarSettings,
    client: pulsar.Client | None = None,
    *,
    limit: int = NEWEST,
    most_bytes: int = MOST_BYTES,
    seconds: float = MOST_S,
) -> list[DeadLetter]:
    """Return the newest letters, at most `limit`, oldest first; `replayed` is set. Raises `Unavailable`."""
    with _client(settings, client) as own:
        end = time.monotonic() + seconds
        found = [one for topic in topics(settings) for one in _newest(settings, own, topic, limit, most_bytes, end)]
    done = {letter.message_id for letter in found if letter.reason == REPLAYED}
    letters = [replace(one, replayed=one.id in done) for one in found if one.reason != REPLAYED]
    return sorted(letters, key=lambda letter: letter.published_us)[-limit:]


def read_all(settings: PulsarSettings) -> Iterator[DeadLetter]:
    """Yield all letters, including `replayed` ones, topic by topic, oldest first. Raises `Unavailable`."""
    with _client(settings, None) as own:
        for topic in topics(settings):
            yield from _from(own, topic, pulsar.MessageId.earliest)


def find(settings: PulsarSettings, letter_id: str) -> DeadLetter | None:
    """Return the letter with this id, or None. Raises `Unavailable`."""
    name, _, place = letter_id.partition("/")
    topic = f"persistent://{settings.tenant}/{NAMESPACE}/{name}"
    try:
        ledger, entry, _ = (int(number) for number in place.split(":"))
        start = pulsar.MessageId(-1, ledger, entry, -1)
    except (ValueError, TypeError):
        return None
    if topic not in topics(settings):
        return None
    with _client(settings, None) as own:
        for letter in _from(own, topic, start):
            if letter.id == letter_id:
                return letter
            if _place(letter.id) > (ledger, entry):
                break
    return None


@contextlib.contextmanager
def _client(settings: PulsarSettings, client: pulsar.Client | None) -> Iterator[pulsar.Client]:
    """Yield the given client, or a new one. The client's errors become `Unavailable`."""
    own = client or new_client(settings)
    try:
        yield own
    except pulsar.PulsarException as error:
        raise Unavailable(f"the broker does not answer: {error}") from None
    finally:
        if client is None:
            own.close()


def _newest(
    settings: PulsarSettings, client: pulsar.Client, topic: str, limit: int, most_bytes: int, end: float
) -> list[DeadLetter]:
    """Read from the end backwards in growing steps of entries, each step forwards."""
    ledgers = Admin(settings).ledgers(topic)
    total = sum(entries for _, entries in ledgers)
    found: deque[DeadLetter] = deque()
    size, back, step, before = 0, 0, _FIRST_STEP, None
    while back < total and len(found) < limit and size < most_bytes and time.monotonic() < end:
        back = min(total, back + step)
        step *= 4
        start = _counted_back(ledgers, back)
        some: deque[DeadLetter] = deque()
        for letter in _from(client, topic, pulsar.MessageId(-1, *start, -1)):
            if before is not None and _place(letter.id) >= before:
                break
            some.append(letter)
            size += len(letter.payload)
            while len(some) > limit or (size > most_bytes and len(some) > 1):
                size -= len(some.popleft().payload)
            if time.monotonic() > end and found:
                break
        found.extendleft(reversed(some))
        before = start
    return list(found)


def _counted_back(ledgers: list[tuple[int, int]], back: int) -> tuple[int, int]:
    """Return the position of the `back`-th entry from the end."""
    for number, entries in reversed(ledgers):
        if back <= entries:
            return number, entries - back
        back -= entries
    return ledgers[0][0], 0


def _place(letter_id: str) -> tuple[int, int]:
    ledger, entry, _ = letter_id.rsplit("/", 1)[1].split(":")
    return int(ledger), int(entry)


def _from(client: pulsar.Client, topic: str, start: pulsar.MessageId) -> Iterator[DeadLetter]:
    reader = client.create_reader(topic, start, receiver_queue_size=_QUEUE, start_message_id_inclusive=True)
    try:
        while reader.has_message_available():
            message = reader.read_next(timeout_millis=5000)
            place = message.message_id()
            name = f"{topic.rsplit('/', 1)[-1]}/{place.ledger_id()}:{place.entry_id()}:{place.batch_index()}"
            yield _letter(name, message.data(), message.publish_timestamp() * 1000)
    except pulsar.Timeout:
        raise Unavailable(f"{topic} could not be read to its end") from None
    finally:
        reader.close()


def _letter(name: str, data: bytes, published_us: int) -> DeadLetter:
    """Decode a letter. Never raises: an invalid one becomes a letter with the reason `unreadable`."""
    try:
        record = schemas.decode("dead_letter", data)
    except Exception as error:
        detail = f"not a dead letter: {type(error).__name__}"
        return DeadLetter(name, "", "", None, "unreadable", detail, data, published_us, published_us)
    topic, message_id, reason, detail = (
        printable(str(record[key])[:_CHARACTERS]) for key in ("topic", "message_id", "reason", "detail")
    )
    return DeadLetter(
        name, topic, message_id, record["row"], reason, detail, record["payload"], record["at_us"], published_us
    )
