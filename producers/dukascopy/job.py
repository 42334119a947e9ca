"""The load of one instrument over one span: what was asked for, what was published, what is open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.database.hour_order import RANK
from pipeline.database.ledger import Hour
from producers.dukascopy.instruments import Instrument
from producers.dukascopy.plan import Open


@dataclass(frozen=True)
class Sent:
    """What was published about an hour, in the ledger's words."""

    state: str
    checksum: int
    fetched_at_us: int

    def shown_by(self, hour: Hour | None) -> bool:
        """Whether the ledger holds this, or something better.

        The checksum does not tell: it leaves out sizes, which one feed rounds, so the look before may have it too.
        """
        if hour is None or RANK[hour.state] != RANK[self.state]:
            return hour is not None and RANK[hour.state] > RANK[self.state]
        # Of what is not final the first look counts, and a later one like it leaves the ledger as it is.
        first_counts = self.state in ("seen_empty", "partial") and hour.checksum == self.checksum
        return first_counts or hour.fetched_at_us >= self.fetched_at_us

    def stored_as_less(self, hour: Hour) -> bool:
        """Whether the ledger holds this very look, but does not call it final by one look."""
        same = (hour.checksum, hour.fetched_at_us) == (self.checksum, self.fetched_at_us)
        return same and (self.state, hour.state) in (("present", "partial"), ("closed", "seen_empty"))


# An instrument none of whose hours can be stored is given up after so many: its scale is wrong, or its topic.
GIVE_UP_AFTER = 24


@dataclass
class Job:
    """The load of one instrument. `done`: hours that this run is through with, and what is open there."""

    instrument: Instrument
    spans: Sequence[range]  # of hours by their start in µs, rising
    optional_from_us: int  # hours from here on are taken if they can be had, not missed otherwise
    done: dict[int, Open | None] = field(default_factory=dict)
    waiting: dict[int, Open] = field(default_factory=dict)
    sent: dict[int, Sent] = field(default_factory=dict)
    accounted: set[int] = field(default_factory=set)
    not_closed: set[int] = field(default_factory=set)
    failed: dict[int, str] = field(default_factory=dict)  # hours that no answer was got for, and why
    answered: int = 0  # hours that an answer was understood of
    refused: int = 0  # hours that cannot be stored as they are
    published: int = 0
    quotes: int = 0
    error: str | None = None  # ends the load
    unproven: str | None = None  # the feed's empty answers are not believed

    @property
    def hours(self) -> int:
        return sum(len(span) for span in self.spans)

    @property
    def progress(self) -> tuple[int, ...]:
        """Grows with everything that this run got done."""
        return len(self.done), self.published, len(self.not_closed)

    def refuse_sent(self, known: Mapping[int, Hour]) -> None:
        """The writer has read what was published and did not store it; `known` is the ledger."""
        refused, self.sent = self.sent, {}
        for hour_us, sent in refused.items():
            if sent.state == "closed":  # its calendar knows better: the hour is asked like others
                self.not_closed.add(hour_us)
            elif sent.state == "confirmed_empty" and hour_us in known:  # by its clock it was too early
                self.done[hour_us] = Open("empty at first sight, to be asked once more")
            else:
                self.unusable(hour_us, "the writer refused it, see the topics dead-letters/*")

    def unusable(self, hour_us: int, why: str) -> None:
        """The hour cannot be stored as it is; after some, and none that could be, neither can the instrument."""
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
