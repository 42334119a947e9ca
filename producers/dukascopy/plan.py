"""Plan which hours of an instrument to fetch: those missing in the ledger, and only those."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.core.times import HOUR_US
from pipeline.database.ledger import Hour
from producers.dukascopy.calendar import closed
from producers.dukascopy.feeds.feed import Feed
from producers.dukascopy.instruments import Instrument

# Time after the end of an hour when it is first requested; files have been seen to appear 45 to 60 min late.
PUBLISHED_AFTER_US = 5 * 60 * 1_000_000
SLACK_US = 5_000_000
# The vendor's word for its first tick is one answer: it saves requests, but accounts for no hour.
_BEFORE_FIRST = (
    "before the vendor's first tick, so not requested; --refetch requests it, first_tick in DUKASCOPY_INSTRUMENTS_FILE"
    " leaves it out"
)


@dataclass(frozen=True)
class Open:
    """An hour that is missing and cannot be requested now. `next_try_us` None: not retried automatically."""

    why: str
    next_try_us: int | None = None


@dataclass
class Plan:
    """Hours of one instrument, by their start in µs."""

    ask: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)  # stored as closed, without a request
    running: list[int] = field(default_factory=list)
    waiting: dict[int, Open] = field(default_factory=dict)
    accounted: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Rules:
    """Parameters of a plan, in µs; `now_us` is by the vendor's clock. `refetch`: request stored hours too, because the
    vendor corrects some."""

    now_us: int
    confirm_us: int
    refetch: bool = False
    not_closed: frozenset[int] = frozenset()  # not closed according to the writer

    def again_us(self, known: Hour) -> int:
        """Return when a second look counts. With slack for a partial hour: the writer also compares times of storing,
        which are a little later, and each look at a partial hour restarts, so it could be too early forever."""
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
    """Make a plan. `span`: hours by their start in µs; `done`: hours that this run has already handled."""
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
    # If the ledger has another state, the hour was requested, or the writer did not consider it closed.
    elif state in (None, "closed") and hour_us <= rules.now_us and _closed(instrument, hour_us, rules):
        plan.closed.append(hour_us)
    elif end_us + PUBLISHED_AFTER_US > rules.now_us:
        if feed.running and hour_us <= rules.now_us:
            plan.running.append(hour_us)
        else:
            plan.waiting[hour_us] = Open("not published yet", end_us + PUBLISHED_AFTER_US)
    elif known is None and end_us <= (instrument.vendor_first_us or 0) and not rules.refetch:
        plan.waiting[hour_us] = Open(_BEFORE_FIRST)
    elif known and (why := _seen_once(known)) and rules.again_us(known) > rules.now_us:
        plan.waiting[hour_us] = Open(why, rules.again_us(known))
    else:
        plan.ask.append(hour_us)


def _seen_once(known: Hour) -> str | None:
    """Return why a finished hour needs a second look; None if it does not."""
    if known.state == "seen_empty":
        return "empty at the first look"
    over_us = known.hour_us + HOUR_US + PUBLISHED_AFTER_US
    return "some of its rows were refused" if known.state == "partial" and known.fetched_at_us >= over_us else None


def _closed(instrument: Instrument, hour_us: int, rules: Rules) -> bool:
    return hour_us not in rules.not_closed and closed(instrument, hour_us)


def _place_in_folder(
    plan: Plan, instrument: Instrument, feed: Feed, hour_us: int, known: Hour | None, rules: Rules
) -> None:
    """A folder needs no requests, so its files are read even if the market should have been closed."""
    if feed.at_hand(instrument, hour_us):
        plan.ask.append(hour_us)
    elif known and known.accounted:
        plan.accounted.add(hour_us)
    elif known is None and _closed(instrument, hour_us, rules) and hour_us + HOUR_US <= rules.now_us:
        plan.closed.append(hour_us)
    else:
        plan.waiting[hour_us] = Open("no such file in the folder")
