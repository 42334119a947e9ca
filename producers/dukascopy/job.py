"""State of one instrument's load: requested, published and missing hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.database.hour_order import RANK
from pipeline.database.ledger import Hour
from producers.dukascopy.instruments import Instrument
from producers.dukascopy.plan import Open


@dataclass(frozen=True)
class Sent:
    """What was published about an hour, in the ledger's terms."""

    state: str
    checksum: int
    fetched_at_us: int

    def shown_by(self, hour: Hour | None) -> bool:
        """Whether the ledger holds this, or something better.

        The checksum alone does not tell: it excludes sizes, which one feed rounds, so an earlier look may share it.
        """
        if hour is None or RANK[hour.state] != RANK[self.state]:
            return hour is not None and RANK[hour.state] > RANK[self.state]
        # While not final, the first look counts, and an equal later one leaves the ledger unchanged.
        first_counts = self.state in ("seen_empty", "partial") and hour.checksum == self.checksum
        return first_counts or hour.fetched_at_us >= self.fetched_at_us

    def stored_as_less(self, hour: Hour) -> bool:
        """Whether the ledger holds exactly this look, but not as final."""
        same = (hour.checksum, hour.fetched_at_us) == (self.checksum, self.fetched_at_us)
        return same and (self.state, hour.state) in (("present", "partial"), ("closed", "seen_empty"))


# Give up an instrument after this many hours if none can be stored: its scale or its topic is wrong.
GIVE_UP_AFTER = 24


@dataclass
class Job:
    """The load of one instrument. `done`: hours this run is done with; the value says why one is still missing."""

    instrument: Instrument
    spans: Sequence[range]  # hours by their start in µs, ascending
    optional_from_us: int  # hours from here on are loaded if available, but not required
    done: dict[int, Open | None] = field(default_factory=dict)
    waiting: dict[int, Open] = field(default_factory=dict)
    sent: dict[int, Sent] = field(default_factory=dict)
    accounted: set[int] = field(default_factory=set)
    not_closed: set[int] = field(default_factory=set)
    failed: dict[int, str] = field(default_factory=dict)  # hours without a usable answer, and why
    answered: int = 0  # hours with an answer that was understood
    refused: int = 0  # hours that cannot be stored as they are
    published: int = 0
    quotes: int = 0
    error: str | None = None  # ends the load
    unproven: str | None = None  # why the feed's empty answers are not believed

    @property
    def hours(self) -> int:
        return sum(len(span) for span in self.spans)

    @property
    def progress(self) -> tuple[int, ...]:
        """Changes with everything that this run gets done."""
        return len(self.done), self.published, len(self.not_closed)

    def refuse_sent(self, known: Mapping[int, Hour]) -> None:
        """Handle hours that the writer has read but not stored; `known` is the ledger."""
        refused, self.sent = self.sent, {}
        for hour_us, sent in refused.items():
            if sent.state == "closed":  # not closed by the writer's calendar: request it like others
                self.not_closed.add(hour_us)
            elif sent.state == "confirmed_empty" and hour_us in known:  # too early by the writer's clock
                self.done[hour_us] = Open("empty at the first look; needs a second one")
            else:
                self.unusable(hour_us, "the writer refused it, see the topics dead-letters/*")

    def unusable(self, hour_us: int, why: str) -> None:
        """Mark an hour that cannot be stored; after `GIVE_UP_AFTER` of them, and none stored, give up the
        instrument."""
        self.done[hour_us] = Open(why)
        self.failed[hour_us] = why
        self.refused += 1
        if self.refused >= GIVE_UP_AFTER and not (self.published or self.sent):
            self.error = why

    @property
    def open_hours(self) -> dict[int, Open]:
        both: dict[int, Open | None] = {**self.waiting, **self.done}
        found = {hour: what for hour, what in both.items() if what is not None}
        return {hour: found[hour] for hour in sorted(found) if hour < self.optional_from_us}
