"""The newest dead letters, for all pages together: read from the end, bounded in number, bytes and time, and kept.

Letters are what strangers sent, so nothing is expected of them: a payload goes to the page as text that is cut, and
parsed only where it is small and harmless. A topic is read again only when something was added to it, and then its last
`NEWEST` letters alone: 150,000 letters cost what 200 do.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
import pulsar

import schemas
from consumers import letter_box
from pipeline import events
from pipeline.admin import Admin
from pipeline.errors import PipelineError, Unavailable
from pipeline.log import get_logger
from pipeline.settings import PulsarSettings

NEWEST = 200  # of each topic; a note about a replay comes after its letter, hence is among them
SHOWN = 100
# An entry can be a batch of a thousand, or 5 MB: what is more than this is read from nearer the end.
READ_MOST, READ_BYTES = 2_000, 16_000_000
READ_WITHIN_S = 5.0
KEPT_S = 2.0
WAIT_S = 5.0
TOPICS_MOST = 50
TEXT_MOST, WORD_MOST = 4_000, 300
PARSED_MOST = 64_000
# Integers beyond this lose digits in a browser.
_EXACT = 1 << 53

# When the broker got it (ms), its place, the letter.
Found = list[tuple[tuple[int, ...], dict[str, Any]]]


@dataclass
class _Topic:
    """What is known of one topic: where it ends, and its newest letters."""

    end: str
    total: int
    letters: Found


class Letters:
    """`await letters.newest()`."""

    def __init__(self, settings: PulsarSettings, client: pulsar.Client) -> None:
        self._settings, self._client = settings, client
        self._admin = Admin(settings)
        self._thread = ThreadPoolExecutor(1, "letters")
        self._topics: dict[str, _Topic] = {}
        self._kept: tuple[float, dict[str, Any]] | None = None
        self._asking: asyncio.Future[None] | None = None

    async def newest(self) -> dict[str, Any]:
        """`total` and the newest `letters`, newest first, without those that were sent again. Raises `Unavailable`."""
        if self._kept is None or time.monotonic() - self._kept[0] > KEPT_S:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.get_running_loop().run_in_executor(self._thread, self._read)
            await asyncio.wait([self._asking], timeout=WAIT_S)
            if not self._asking.done():
                raise Unavailable(f"the broker did not give the dead letters within {WAIT_S:.0f} s")
            self._asking.result()
        if self._kept is None:
            raise Unavailable("the dead letters could not be read")
        return self._kept[1]

    def close(self) -> bool:
        """False when a thread still hangs in the client."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        return self._asking is None or self._asking.done()

    # -- in its thread -------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        names = letter_box.topics(self._settings)[:TOPICS_MOST]
        for topic in names:
            try:
                self._refresh(topic)
            except (pulsar.PulsarException, PipelineError) as error:
                if topic not in self._topics:
                    raise Unavailable(f"the broker did not give the dead letters: {error}") from None
                get_logger().warning(events.BROKER_RETRY, on=topic, error=str(error))
        self._topics = {name: self._topics[name] for name in names if name in self._topics}
        known = list(self._topics.values())
        found = [letter for topic in known for letter in topic.letters]
        found.sort(key=lambda letter: letter[0], reverse=True)
        replayed = {one["message_id"] for _, one in found if one["reason"] == letter_box.REPLAYED}
        shown = [one for _, one in found if one["reason"] != letter_box.REPLAYED and one["id"] not in replayed]
        total = max(sum(topic.total for topic in known), len(shown))
        self._kept = time.monotonic(), {"total": total, "letters": shown[:SHOWN]}

    def _refresh(self, topic: str) -> None:
        ledgers = self._admin.ledgers(topic)
        end = f"{ledgers[-1][0]}:{ledgers[-1][1]}" if ledgers else ""
        known = self._topics.get(topic)
        if known is not None and known.end == end:
            return
        entries = sum(count for _, count in ledgers)
        total = max(entries, self._admin.backlog(topic, "nobody")[0])
        until = time.monotonic() + READ_WITHIN_S
        letters: Found | None = None if entries else []
        for newest in (NEWEST, NEWEST // 4, NEWEST // 16, 3, 1):
            if letters is None:
                letters = self._tail(topic, _from_end(ledgers, newest), until, last=newest == 1)
        self._topics[topic] = _Topic(end if time.monotonic() < until else "", total, letters or [])

    def _tail(self, topic: str, place: pulsar.MessageId, until: float, *, last: bool) -> Found | None:
        """The letters from `place` on; None when there are too many, unless this is the last try."""
        reader = self._client.create_reader(topic, place, receiver_queue_size=20, start_message_id_inclusive=True)
        found: deque[tuple[tuple[int, ...], dict[str, Any]]] = deque(maxlen=NEWEST)
        seen = size = 0
        try:
            while time.monotonic() < until and reader.has_message_available():
                if seen >= READ_MOST or size >= READ_BYTES:
                    return list(found) if last else None
                try:
                    message = reader.read_next(timeout_millis=2000)
                except pulsar.Timeout:
                    break
                data = message.data()
                seen, size = seen + 1, size + len(data)
                place = message.message_id()
                order = message.publish_timestamp(), place.ledger_id(), place.entry_id(), place.batch_index()
                found.append((order, letter_of(topic, place, data)))
        finally:
            with suppress(pulsar.PulsarException):  # already closed
                reader.close()
        return list(found)


def _from_end(ledgers: list[tuple[int, int]], count: int) -> pulsar.MessageId:
    """The place of the entry that has `count - 1` after it."""
    place = ledgers[0][0], 0
    for ledger, entries in reversed(ledgers):
        place = ledger, max(0, entries - count)
        count -= entries
        if count <= 0:
            break
    return pulsar.MessageId(-1, *place, -1)


def letter_of(topic: str, place: pulsar.MessageId, data: bytes) -> dict[str, Any]:
    """A letter as the page shows it, whatever it holds."""
    source = topic.rsplit("/", 1)[-1]
    made: dict[str, Any] = {
        "id": f"{source}/{place.ledger_id()}:{place.entry_id()}:{place.batch_index()}", "source": source,
        "topic": topic, "message_id": "", "row": None, "reason": "unreadable", "detail": "this is no dead letter",
        "at_us": 0, "replayed": False,
    }  # fmt: skip
    payload = data
    try:
        record = schemas.decode("dead_letter", data)
    except Exception:  # whatever a decoder raises on foreign bytes
        pass
    else:
        payload = record["payload"]
        for name in ("topic", "message_id", "reason", "detail"):
            made[name] = _cut(record[name], WORD_MOST)
        made["row"], made["at_us"] = record["row"], min(max(record["at_us"], 0), _EXACT)
    made["payload"], made["text"] = _content(made["topic"], payload)
    made["bytes"] = len(payload)
    return made


def _content(topic: str, payload: bytes) -> tuple[Any, str]:
    """A payload for programs and for people: parsed where that is harmless, and as text with every digit."""
    parsed: Any = None
    if len(payload) <= PARSED_MOST:
        with suppress(Exception):  # nesting, bytes that are no text, numbers without end
            parsed = json.loads(payload)
        if parsed is None:
            with suppress(Exception):  # whatever a decoder raises on foreign bytes
                parsed = letter_box.DeadLetter("", topic, "", None, "", "", payload, 0).content
    if parsed is not None and not isinstance(parsed, str):
        with suppress(Exception):  # nesting, lone surrogates, integers beyond 64 bit, a day that is none
            text = json.dumps(parsed, indent=2, ensure_ascii=False, default=str)
            if len(text) <= TEXT_MOST:
                orjson.dumps(parsed, default=str)
                return parsed, _cut(text, TEXT_MOST)
    text = _cut(payload[: 4 * TEXT_MOST].decode("utf-8", "replace"), TEXT_MOST)
    return text, text


def _cut(text: str, most: int) -> str:
    """Without what only steers a screen or cannot be sent."""
    shown = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text[:most])
    return shown + ("…" if len(text) > most else "")
