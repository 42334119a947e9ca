"""The position of a reader in a stream: a text that the caller keeps and passes to resume from there.

For each kind of events it holds the last message read (ledger, entry, index in the batch) and its publish time; for
trades also the ids emitted, for candles the newest closed one. The ids prevent duplicates: a topic may hold the same
trade several times (a snapshot after a reconnect, a repair).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pulsar

from pipeline.core.errors import Refused, WrongUse
from pipeline.core.products import short
from pipeline.core.timeframes import TIMEFRAMES
from pipeline.core.times import END_US, OLDEST_US

# A position must fit into an HTTP header of 4 kB. A product's ids are one range; each hole adds one.
MOST_RANGES = 64

MessageKey = tuple[int, int, int]


class PositionLost(Refused):
    """The topic no longer has the message of a position (retention, a deleted topic, a reset broker)."""

    def __init__(self) -> None:
        super().__init__(
            "the topic no longer has the message of this position; read what is missing with pipeline.read"
            " and begin without a position."
        )


class Unsure(Exception):
    """Messages between the last one and this one may be gone: read the topic again from the last one."""


def key_of(message: pulsar.Message) -> MessageKey:
    """Return (ledger, entry, index in the batch), which ascends along a topic."""
    id_ = message.message_id()
    return id_.ledger_id(), id_.entry_id(), id_.batch_index()


class Place(msgspec.Struct, omit_defaults=True):
    """The position within one kind of events.

    `message`: the last one read; `sent_ms`: its publish time in ms since 1970. Without a message, everything published
    from `sent_ms` on is new.
    """

    sent_ms: int
    message: MessageKey | None = None
    ids: tuple[tuple[int, int], ...] = ()  # ranges of the trade ids emitted, inclusive
    closed_us: int = 0  # start of the newest closed candle emitted

    def replace(self, **changes: Any) -> Place:
        """Return a copy with these changes: an event keeps its place while this one moves on."""
        return msgspec.structs.replace(self, **changes)


Places = dict[str, Place]


def text_of_places(places: Places) -> str:
    """Return the position as a text."""
    return msgspec.json.encode(places).decode()


def places_of(text: str | None) -> Places:
    """Parse a position. Raises `WrongUse` for any other text."""
    if not text:
        return {}
    try:
        places = msgspec.json.decode(text, type=Places)
        if all(map(_possible, places.items())):
            return places
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    raise WrongUse(f"{short(text)} is not a valid position; pass the `position` of an event unchanged.")


def _possible(item: tuple[str, Place]) -> bool:
    """Whether a stream can have been there: changed ids could hide trades, a changed time make candles of no time."""
    kind, place = item
    frame = TIMEFRAMES.get(kind.removeprefix("candles_"))
    if place.closed_us and (frame is None or place.closed_us != frame.bucket_us(place.closed_us)):
        return False
    ends = [end for one in place.ids for end in one]
    return ends == sorted(ends) and (not place.closed_us or OLDEST_US <= place.closed_us < END_US)


@dataclass
class SeenIds:
    """Trade ids that were emitted, as ranges; beyond `MOST_RANGES`, the lowest are forgotten."""

    ranges: list[tuple[int, int]] = field(default_factory=list)  # inclusive, ascending, not adjacent

    def add(self, trade_id: int) -> bool:
        """Add an id; returns False if it was already there."""
        ranges = self.ranges
        at = bisect_right(ranges, trade_id, key=lambda one: one[0])
        before = ranges[at - 1] if at else None
        if before is not None and trade_id <= before[1]:
            return False
        first, last = trade_id, trade_id
        begin, end = at, at
        if before is not None and before[1] == trade_id - 1:
            first, begin = before[0], at - 1
        if at < len(ranges) and ranges[at][0] == trade_id + 1:
            last, end = ranges[at][1], at + 1
        ranges[begin:end] = [(first, last)]
        del ranges[:-MOST_RANGES]
        return True


@dataclass
class Follower:
    """Decides which messages of a topic are new to a reader.

    With a `place`, the topic is read from a little before it, and its message must be found again: otherwise messages
    after it may be gone too. Without one, everything published from `began_ms` on is new.

    The broker drops whole ledgers at once (retention, a deleted topic), even if a slow reader has not reached them, and
    the client does not report it. So the first message of another ledger is accepted only from a reader that has just
    met the last message, or has waited behind it.
    """

    began_ms: int
    place: Place | None
    margin_ms: int = 60_000  # the broker seeks by publish times, which are those of the producers' clocks
    _met: bool = False
    _sure: bool = False  # nothing can be gone between the last message and the next one

    def start_ms(self) -> int:
        """Return the publish time from which to read the topic, in ms. Called at each connection."""
        self._met = self._sure = False
        return max(0, (self.place.sent_ms if self.place else self.began_ms) - self.margin_ms)

    def is_new(self, key: MessageKey, sent_ms: int) -> bool:
        """Return whether a message comes after the place. Raises `PositionLost` if the place's message is gone, and
        `Unsure`."""
        if self.place is None or self.place.message is None:
            return sent_ms >= (self.place.sent_ms if self.place else self.began_ms)
        last = self.place.message
        if key < last:
            # Older messages were not sent later: these numbers belong to another topic.
            if sent_ms > self.place.sent_ms + self.margin_ms:
                raise PositionLost
            return False
        if key == last:
            if sent_ms != self.place.sent_ms:
                raise PositionLost
            self._met = self._sure = True
            return False
        if not self._met:
            raise PositionLost
        if key[0] != last[0] and not self._sure:
            raise Unsure
        return True

    def move(self, place: Place) -> None:
        """Record that the message of `place` was read."""
        self._sure = self._sure and self.is_last(place)
        self.place, self._met = place, True

    def quiet(self) -> None:
        """Record that the topic has no more messages at the moment."""
        self._sure = True

    def is_last(self, place: Place) -> bool:
        """Return whether this is the message of the current place, some of whose events may not have been emitted."""
        return self.place is not None and self.place.message == place.message
