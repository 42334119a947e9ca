"""Which hours of an instrument are to be fetched: what the ledger does not account for, and only that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.core.times import HOUR_US
from pipeline.database.ledger import Hour
from producers.dukascopy.calendar import closed
from producers.dukascopy.feeds.feed import Feed
from producers.dukascopy.instruments import Instrument

# An hour file appears after the hour ends; delays of 45 to 60 min have been seen. Asked from here on.
PUBLISHED_AFTER_US = 5 * 60 * 1_000_000
SLACK_US = 5_000_000


@dataclass(frozen=True)
class Open:
    """An hour that is not accounted for and cannot be asked now. `next_try_us` None: not by itself."""

    why: str
    next_try_us: int | None = None


@dataclass
class Plan:
    """Hours of one instrument in a span, by their start in µs."""

    ask: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)  # stored as such, without a call
    running: list[int] = field(default_factory=list)
    waiting: dict[int, Open] = field(default_factory=dict)
    accounted: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Rules:
    """Times that decide, in µs; now is by the vendor's clock. `refetch`: ask for hours that are there too (the vendor
    corrects)."""

    now_us: int
    confirm_us: int
    refetch: bool = False
    not_closed: frozenset[int] = frozenset()  # hours that the writer did not take for closed

    def again_us(self, known: Hour) -> int:
        """When a second look counts. The writer compares moments of storing too, which lie a little later, and of a
        partial hour each look begins anew: so that one must not come a moment too early for ever."""
        slack_us = min(SLACK_US, self.confirm_us // 10) if known.state == "partial" else 0
        return known.fetched_at_us + self.confirm_us + slack_us


def make_plan(
    instrument: Instrument,
    feed: Feed,
    span: Iterable[int],
    ledger: Mapping[int, Hour],
    rules: Rules,
    done: Mapping[int, object],
) -> Plan:
    """`span`: hours by their start in µs; `done` are hours that this run has dealt with already."""
    plan = Plan()
    for hour_us in span:
        if hour_us not in done:
            _place(plan, instrument, feed, hour_us, ledger.get(hour_us), rules)
    return plan


def _place(plan: Plan, instrument: Instrument, feed: Feed, hour_us: int, known: Hour | None, rules: Rules) -> None:
    end_us = hour_us + HOUR_US
    state = known.state if known else None
    if known and known.accounted and not rules.refetch and not (state == "closed" and feed.free):
        plan.accounted.add(hour_us)
    elif feed.free:
        _place_in_folder(plan, instrument, feed, hour_us, known, rules)
    # An hour that the ledger knows otherwise was asked, or its writer did not take it for closed.
    elif state in (None, "closed") and hour_us <= rules.now_us and _closed(instrument, hour_us, rules):
        plan.closed.append(hour_us)
    elif end_us + PUBLISHED_AFTER_US > rules.now_us:
        if feed.running and hour_us <= rules.now_us:
            plan.running.append(hour_us)
        else:
            plan.waiting[hour_us] = Open("not published yet", end_us + PUBLISHED_AFTER_US)
    elif known and (why := _seen_once(known)) and rules.again_us(known) > rules.now_us:
        plan.waiting[hour_us] = Open(why, rules.again_us(known))
    else:
        plan.ask.append(hour_us)


def _seen_once(known: Hour) -> str | None:
    """Why an hour that was looked at when it was over must be looked at again."""
    if known.state == "seen_empty":
        return "empty at first sight"
    over_us = known.hour_us + HOUR_US + PUBLISHED_AFTER_US
    return "some of its rows were refused" if known.state == "partial" and known.fetched_at_us >= over_us else None


def _closed(instrument: Instrument, hour_us: int, rules: Rules) -> bool:
    return hour_us not in rules.not_closed and closed(instrument, hour_us)


def _place_in_folder(
    plan: Plan, instrument: Instrument, feed: Feed, hour_us: int, known: Hour | None, rules: Rules
) -> None:
    """A folder costs no call, so its files count even when the market should have been closed."""
    if feed.at_hand(instrument, hour_us):
        plan.ask.append(hour_us)
    elif known and known.accounted:
        plan.accounted.add(hour_us)
    elif known is None and _closed(instrument, hour_us, rules) and hour_us + HOUR_US <= rules.now_us:
        plan.closed.append(hour_us)
    else:
        plan.waiting[hour_us] = Open("no such file in the folder")
