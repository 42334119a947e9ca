"""The protocol of all feeds of hours.

`hour()` returns the source's answer and raises if there is none: an hour is never called empty because a server was
busy. Since a wrong URL gives "not found" for everything, an empty answer over the network only counts while the same
feed has been seen to return quotes of that instrument (`proven`, `prove`).
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
    """A feed's answer about one hour. `feed`: the feed's name; `kept`: it came from the disk; `despite`: other feeds
    whose answers about this hour were unreadable, with the reason."""

    status: Status
    quotes: Quotes
    feed: str
    fetched_at_us: int
    kept: bool = False
    despite: Mapping[str, str] = field(default_factory=dict)


def reason(error: Exception) -> str:
    """Return the error's text without the URL."""
    return re.sub(r"^https?://\S+: ", "", str(error)) or type(error).__name__


class Feed(Protocol):
    """A source of hours. Thread-safe: a load calls it from several worker threads, and calls may block.

    `free`: needs no requests, and its answers are final. `running`: has the running hour too. Hours and days are given
    by their start in µs since 1970.
    """

    clock: VenueClock
    name: str
    free: bool
    running: bool

    def hour(self, instrument: Instrument, hour_us: int, *, fresh: bool = False) -> Fetched:
        """Return a finished hour; with `fresh`, bypass the disk. Raises `Unavailable` (and subclasses), `Refused`,
        `BadData`, `Stopped`."""

    def running_hour(self, instrument: Instrument, hour_us: int) -> Fetched:
        """Return the running hour so far. Raises like `hour`; `Refused` if the feed does not have it."""

    def at_hand(self, instrument: Instrument, hour_us: int) -> bool:
        """Whether the hour is available without a request."""

    def proven(self, instrument: Instrument, feed: str) -> bool:
        """Whether the named feed has recently returned quotes of the instrument over the network."""

    def prove(self, instrument: Instrument, feed: str, hours: Sequence[int]) -> bool:
        """Request `hours`, which are known to have quotes, until one comes. Returns False if none does. Raises
        `Stopped`."""

    def has_alternative(self, instrument: Instrument) -> bool:
        """Whether another feed is left that answers and is not doubted."""

    def minutes(self, instrument: Instrument, day_us: int, side: str) -> Column:
        """Return the vendor's minute candles of a day, see `bi5.parse_minutes`."""

    def described(self, instrument: Instrument) -> Instrument:
        """Return the instrument completed by what the feed knows about it."""

    def wait_s(self, instrument: Instrument | None = None) -> float:
        """Return the seconds until the next request (for this instrument) makes sense; 0: now."""

    def learn_clock(self, instrument: Instrument) -> None:
        """Make any request, to learn the vendor's clock; its errors are ignored. Raises `Stopped`."""
