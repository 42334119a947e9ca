"""Where a reader of a stream is: a text that the caller keeps, and hands over to go on from there.

It holds, for each kind, the message that was read last (ledger, entry, place in the batch) and its publish time; for
trades the ids that were given, for candles the newest that was closed. The ids keep a trade from coming twice: the same
trade may stand on a topic several times (a snapshot after a reconnect, a repair).
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

# A position goes into an HTTP header of 4 kB at most. The ids of a venue are one range; each hole adds one.
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
    """Between the last message and this one something may be gone: the topic is to be read again from the last one."""


def key_of(message: pulsar.Message) -> MessageKey:
    """Ledger, entry, place in the batch: rises along a topic."""
    one = message.message_id()
    return one.ledger_id(), one.entry_id(), one.batch_index()


class Place(msgspec.Struct, omit_defaults=True):
    """Of one kind. `message` is the last one read, `sent_ms` its publish time in ms since 1970; without a message, what
    was published from then on is new."""

    sent_ms: int
    message: MessageKey | None = None
    ids: tuple[tuple[int, int], ...] = ()
    closed_us: int = 0

    def told(self, **more: Any) -> Place:
        """As it is now, for an event that is on its way while this one moves on."""
        return msgspec.structs.replace(self, **more)


Places = dict[str, Place]


def text_of_places(places: Places) -> str:
    return msgspec.json.encode(places).decode()


def places_of(text: str | None) -> Places:
    """Raises `WrongUse` for a text that is no position."""
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
    """Trade ids that were given, as ranges; the lowest are forgotten beyond `MOST_RANGES`."""

    ranges: list[tuple[int, int]] = field(default_factory=list)  # inclusive, rising, not adjacent

    def add(self, trade_id: int) -> bool:
        """False where it was there."""
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
    """Which messages of a topic are new to a reader.

    With a `place` the topic is read from a little before it, and its message must be met: otherwise something between
    it and the first one read is gone. Without one, what was published after `began_ms` is new.

    Whole ledgers go at once (retention, a deleted topic), also those that a slow reader has not come to, and the client
    says nothing of it. So the first message of another ledger is believed only from a reader that has just met the last
    one, or has waited behind it.
    """

    began_ms: int
    place: Place | None
    margin_ms: int = 60_000  # producers' clocks differ, and the broker looks for a time by theirs
    _met: bool = False
    _sure: bool = False  # nothing can be gone between the last message and the next one

    def start_ms(self) -> int:
        """From which publish time on the topic is to be read, at each connection."""
        self._met = self._sure = False
        return max(0, (self.place.sent_ms if self.place else self.began_ms) - self.margin_ms)

    def is_new(self, key: MessageKey, sent_ms: int) -> bool:
        """Whether a message comes after the place. Raises `PositionLost`, `Unsure`."""
        if self.place is None or self.place.message is None:
            return sent_ms >= (self.place.sent_ms if self.place else self.began_ms)
        last = self.place.message
        if key < last:
            # Older ones were not sent later: the numbers are another topic's.
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
        """The message of `place` was read."""
        self._sure = self._sure and self.is_last(place)
        self.place, self._met = place, True

    def quiet(self) -> None:
        """The topic has nothing more at the moment."""
        self._sure = True

    def is_last(self, place: Place) -> bool:
        """Whether it is the message of the place, of which a part may not have been given."""
        return self.place is not None and self.place.message == place.message
