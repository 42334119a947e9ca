"""What a feed of hours is to everyone who uses one.

`hour()` gives what the source says, and raises when it says nothing: an hour is never called empty because a server
was busy. And because a wrong address says "not found" to everything, an empty answer over the network counts only
while the same feed is seen to give quotes of that instrument (`proven`, `prove`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from producers.dukascopy.feeds.clock import VenueClock
from producers.dukascopy.instruments import Instrument
from producers.dukascopy.quotes import Quotes
from schemas.columns import Column

Status = Literal["ticks", "empty", "absent", "partial"]


@dataclass(frozen=True)
class Fetched:
    """What a feed says about one hour. `feed` is the name of the one that said it; `kept`: it was on the disk;
    `despite`: other feeds, whose answers about this hour were not to be read, and why."""

    status: Status
    quotes: Quotes
    feed: str
    fetched_at_us: int
    kept: bool = False
    despite: Mapping[str, str] = field(default_factory=dict)


def reason(error: Exception) -> str:
    """Its text without the address: an hour is named by its time."""
    return re.sub(r"^https?://\S+: ", "", str(error)) or type(error).__name__


class Feed(Protocol):
    """`free`: asking costs nobody anything, and what it says is final. `running`: knows the hour that is not over."""

    clock: VenueClock
    name: str
    free: bool
    running: bool

    def hour(self, instrument: Instrument, hour_us: int, *, fresh: bool = False) -> Fetched:
        """A finished hour; with `fresh` not from the disk. Raises `Unavailable` (and below), `Refused`, `BadData`,
        `Stopped`."""

    def running_hour(self, instrument: Instrument, hour_us: int) -> Fetched:
        """The hour so far."""

    def at_hand(self, instrument: Instrument, hour_us: int) -> bool:
        """Whether the hour can be had without a call."""

    def proven(self, instrument: Instrument, feed: str) -> bool:
        """Whether the feed of this name gave quotes of the instrument lately, not counting the disk."""

    def prove(self, instrument: Instrument, feed: str, hours: Sequence[int]) -> bool:
        """Ask for hours (µs) that have quotes until one comes; False when none does. Raises `Stopped`."""

    def spare(self, instrument: Instrument) -> bool:
        """Whether a feed is left that answers and did not fail to prove itself."""

    def minutes(self, instrument: Instrument, day_us: int, side: str) -> Column:
        """The vendor's own minute candles of a day, see `bi5.parse_minutes`."""

    def described(self, instrument: Instrument) -> Instrument:
        """The instrument, completed by what the feed knows about it."""

    def wait_s(self, instrument: Instrument | None = None) -> float:
        """Seconds until it makes sense to ask (about this instrument); 0: now."""

    def hear(self, instrument: Instrument) -> None:
        """Ask for anything, so that the vendor's clock is known; never mind the answer. Raises `Stopped`."""
