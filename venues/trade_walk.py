"""Fetch missing trade ids by REST and publish them. Shared by back-fills and the gap filler.

A source walks pages over a range of ids. Wanted trades are published at once, so a walk that ends early has published
what it got. Nothing is final after one look. An id is absent if an answer holds ids on both sides of it but not the id
itself, bad if its row cannot be stored, unreachable if the walk passes it without any cursor leading to it. It becomes
a finding if a second look, `confirm_s` later, gives the same result.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.broker.publisher import Publisher
from pipeline.core import metrics
from pipeline.core.errors import Unavailable
from pipeline.core.products import AssetClass, Origin
from pipeline.core.runtime import now_us
from schemas.records import Hole, TradeRow, TradesMessage
from venues import id_ranges
from venues.id_ranges import IdRange
from venues.rest.date_clock import DateClock
from venues.rest.page import BadRow, Page

VENUE_HAS_NONE = "venue_has_none"
TOO_OLD = "too_old"
REJECTED = "rejected"
UNREACHABLE = "unreachable"
# Ranges closer together than this are fetched in one walk: a page holds 1000 trades.
ONE_WALK = 700
# Trade times are not monotonic in id; a second look starts this much earlier before it declares ids missing.
SECOND_LOOK_US = 10_000_000


class Source(Protocol):
    """A venue's trades by REST.

    All methods block, including for rate limits and retries; they are called from one worker thread at a time. All
    raise `Refused`, `Unavailable` or `pipeline.core.stopping.Stopped`.
    """

    venue: str
    page_rows: int  # most trades on a page
    calls_per_s: float  # requests per second that the rate limit allows
    clock: DateClock

    def prepare(self, products: Sequence[str]) -> None:
        """Look up what requests for these products need, all at once. Raises `Refused` for an unknown product."""

    def newest_trade(self, product_id: str) -> int:
        """Return the newest trade's id. Raises `Refused` if the product has never traded."""

    def first_id_at(self, product_id: str, at_us: int) -> int:
        """Return the smallest id with a venue time >= `at_us`; the newest id + 1 if there is none, 0 if the product
        has never traded."""

    def pages(
        self, product_id: str, first_id: int, last_id: int, before_us: int | None, after_us: int | None
    ) -> Iterator[Page]:
        """Yield pages that cover `first_id..last_id` and, where the venue has them, ids on both sides.

        Consecutive pages overlap, so that nothing between them goes unseen. `before_us` and `after_us` are venue times
        at or before the first and at or after the last id, None where unknown.
        """


@dataclass
class Filled:
    """The result of one walk."""

    published: list[IdRange] = field(default_factory=list)
    waiting: list[IdRange] = field(default_factory=list)  # absent, bad or unreachable; to be confirmed by a second look
    findings: dict[str, list[IdRange]] = field(default_factory=dict)  # by reason: confirmed by two looks and published
    bad: list[BadRow] = field(default_factory=list)
    complete: bool = False  # the walk was not cut short by its budget

    @property
    def explained(self) -> list[IdRange]:
        """All ids of `findings`."""
        return id_ranges.merged(span for found in self.findings.values() for span in found)


class Proofs:
    """When ids were first seen absent, bad or unreachable. Kept in memory only: a restart requires two new looks."""

    def __init__(self, confirm_s: float) -> None:
        self._confirm_s = confirm_s
        self._first: defaultdict[tuple[str, str], list[tuple[IdRange, float]]] = defaultdict(list)

    def confirm(self, product_id: str, seen: list[IdRange], now: float, what: str = VENUE_HAS_NONE) -> list[IdRange]:
        """Return the ids of `seen` that were first seen as `what` at least `confirm_s` ago; remember the others as of
        `now` (monotonic seconds)."""
        key = (product_id, what)
        known = self._first[key]
        confirmed = id_ranges.common(seen, [span for span, at in known if now - at >= self._confirm_s])
        fresh = id_ranges.without(seen, [span for span, _ in known])
        self._first[key] = [(rest, at) for span, at in known for rest in id_ranges.without([span], confirmed)] + [
            (span, now) for span in fresh
        ]
        return confirmed

    def pending(self, product_id: str, wanted: list[IdRange]) -> bool:
        """Return whether any of these ids awaits a second look."""
        known = [span for (product, _), seen in self._first.items() if product == product_id for span, _ in seen]
        return bool(id_ranges.common(wanted, known))

    def forget(self, product_id: str, found: list[IdRange]) -> None:
        """Forget ids that turned up after all."""
        for key in [key for key in self._first if key[0] == product_id]:
            self._first[key] = [
                (rest, at) for span, at in self._first[key] for rest in id_ranges.without([span], found)
            ]
            if not self._first[key]:
                del self._first[key]


class Filler:
    """Fetches and publishes ranges of ids of one venue. `publisher_of` returns the publisher of a product's trades."""

    def __init__(
        self,
        source: Source,
        publisher_of: Callable[[str], Publisher],
        origin: Origin,
        confirm_s: float,
        asset_class: AssetClass = "crypto",
    ) -> None:
        self.source, self.proofs, self.asset_class = source, Proofs(confirm_s), asset_class
        self._publisher_of, self._origin = publisher_of, origin

    def fill(
        self,
        product_id: str,
        wanted: list[IdRange],
        before_us: int | None,
        after_us: int | None,
        *,
        budget_s: float,
        on_rows: Callable[[int], None] = lambda rows: None,
    ) -> Filled:
        """Walk once over `wanted` (ascending), for about `budget_s` seconds at most. Calls `on_rows` with the number of
        trades that each page added.

        Raises what `Source.pages` raises; what was published before an error stays published.
        """
        until = time.monotonic() + budget_s
        result = Filled()
        absent: list[IdRange] = []
        shown: list[IdRange] = []  # every id in an answer, wanted or not
        if before_us is not None and self.proofs.pending(product_id, wanted):
            before_us -= SECOND_LOOK_US
        walk = self.source.pages(product_id, wanted[0][0], wanted[-1][1], before_us, after_us)
        blurred = False
        for page in walk:
            blurred |= page.blurred
            fresh: dict[int, TradeRow] = {}
            for row in page.rows:
                number = row.trade_id
                if id_ranges.contains(wanted, number) and not id_ranges.contains(result.published, number):
                    fresh[number] = row
            if fresh:
                self._publish(product_id, [fresh[number] for number in sorted(fresh)], [])
                result.published = id_ranges.merged([*result.published, *id_ranges.of_ids(fresh)])
                on_rows(len(fresh))
            result.bad += [one for one in page.bad if id_ranges.contains(wanted, one.trade_id)]
            shown = id_ranges.merged([*shown, *id_ranges.of_ids(page.ids)])
            if not page.blurred:
                absent += id_ranges.between(page.ids)
            if time.monotonic() > until:
                break
        else:
            result.complete = True
        passed = result.complete and not blurred
        self._judge(product_id, wanted, id_ranges.merged(absent), shown, passed, result)
        return result

    def _judge(
        self,
        product_id: str,
        wanted: list[IdRange],
        absent: list[IdRange],
        shown: list[IdRange],
        passed: bool,
        result: Filled,
    ) -> None:
        """Classify the ids that were not published, and publish the findings that two looks agree on."""
        bad = id_ranges.without(id_ranges.of_ids(one.trade_id for one in result.bad), result.published)
        absent = id_ranges.without(id_ranges.common(absent, wanted), shown)
        # The walk passed these ids, but they were on no page and between no two rows of a page: no cursor leads to them
        # (Kraken: more trades in one nanosecond than a page holds).
        beyond = passed and bool(shown) and shown[0][0] < wanted[0][0] and shown[-1][1] > wanted[-1][1]
        unreachable = id_ranges.without(wanted, [*shown, *absent]) if beyond else []
        self.proofs.forget(product_id, result.published)
        now = time.monotonic()
        contents = {one.trade_id: str(hash(one.payload)) for one in result.bad}
        seen = [(VENUE_HAS_NONE, VENUE_HAS_NONE, absent), (UNREACHABLE, UNREACHABLE, unreachable)]
        seen += [(REJECTED, f"{REJECTED} {contents[first]}", [(first, first)]) for first in id_ranges.ids_of(bad)]
        for reason, what, here in seen:
            confirmed = self.proofs.confirm(product_id, here, now, what)
            result.waiting += id_ranges.without(here, confirmed)
            if confirmed:
                result.findings[reason] = id_ranges.merged([*result.findings.get(reason, []), *confirmed])
        for reason, found in result.findings.items():
            self.publish_findings(product_id, found, reason)

    def publish_findings(self, product_id: str, found: list[IdRange], reason: str) -> None:
        """Publish claims that ids will not come. They count only once whoever looked has signed them in the ledger."""
        if not found:
            return
        at = now_us()
        claims = [Hole(first, last, reason, at) for first, last in found]
        self._publish(product_id, [], claims)
        metrics.GAPS_UNREPAIRABLE.labels(self.source.venue, product_id, reason).inc(id_ranges.size(found))

    def _publish(self, product_id: str, rows: list[TradeRow], holes: list[Hole]) -> None:
        message = TradesMessage(self.source.venue, product_id, self.asset_class, self._origin, now_us(), rows, holes)
        publisher = self._publisher_of(product_id)
        if not publisher.send(message, key=product_id, wait=True):
            raise Unavailable(f"the broker does not accept messages for {publisher.topic}")
