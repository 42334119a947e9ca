"""Missing trade ids, asked of a venue's REST interface and published: what a load by command and the gap filler share.

A source walks pages over a run of ids. What lies in the wanted spans is published at once, so a walk that ends early
has published what it got. Nothing is final on one look: what an answer does not hold though it holds ids on both sides
(absent), holds as a row that cannot be stored (bad), or passes by without a way to ask for it (unreachable) becomes
a finding when a second look, `confirm_s` later, says the same.
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
# Spans closer together than this are passed in one walk: a page holds 1000 trades.
ONE_WALK = 700
# Trade times are not monotonic in id; a second look starts this much earlier before it declares ids missing.
SECOND_LOOK_US = 10_000_000


class Source(Protocol):
    """A venue's trades by REST. Everything raises `Refused`, `Unavailable` or `pipeline.core.stopping.Stopped`."""

    venue: str
    page_rows: int
    calls_per_s: float
    clock: DateClock

    def prepare(self, products: Sequence[str]) -> None:
        """Learn what is needed to ask about these products, all at once. Raises `Refused` for one that there is not."""

    def newest_trade(self, product_id: str) -> int:
        """Its id. Raises `Refused` where the product has never traded."""

    def first_id_at(self, product_id: str, at_us: int) -> int:
        """The smallest id with a venue time >= `at_us`; one more than the newest where there is none, 0 where there
        never was a trade."""

    def pages(
        self, product_id: str, first_id: int, last_id: int, before_us: int | None, after_us: int | None
    ) -> Iterator[Page]:
        """Pages that pass `first_id..last_id` and, where the venue can, ids on both sides; neighbours overlap.

        `before_us`, `after_us`: venue times at or before the first, at or after the last id, where known.
        """


@dataclass
class Filled:
    """What one walk brought."""

    published: list[IdRange] = field(default_factory=list)
    waiting: list[IdRange] = field(
        default_factory=list
    )  # seen once as absent, bad or unreachable; a second look follows
    findings: dict[str, list[IdRange]] = field(default_factory=dict)  # by reason: seen twice, published as such
    bad: list[BadRow] = field(default_factory=list)
    complete: bool = False  # the walk was not cut short by its budget

    @property
    def explained(self) -> list[IdRange]:
        """The ids of all findings."""
        return id_ranges.merged(span for found in self.findings.values() for span in found)


class Proofs:
    """When something was first seen of ids. Lost with the process: then it is asked twice again."""

    def __init__(self, confirm_s: float) -> None:
        self._confirm_s = confirm_s
        self._first: defaultdict[tuple[str, str], list[tuple[IdRange, float]]] = defaultdict(list)

    def confirm(self, product_id: str, seen: list[IdRange], now: float, what: str = VENUE_HAS_NONE) -> list[IdRange]:
        """The part of `seen` that was seen as `what` at least `confirm_s` ago too; the rest is remembered from now."""
        key = (product_id, what)
        known = self._first[key]
        confirmed = id_ranges.common(seen, [span for span, at in known if now - at >= self._confirm_s])
        fresh = id_ranges.without(seen, [span for span, _ in known])
        self._first[key] = [(rest, at) for span, at in known for rest in id_ranges.without([span], confirmed)] + [
            (span, now) for span in fresh
        ]
        return confirmed

    def pending(self, product_id: str, wanted: list[IdRange]) -> bool:
        """Whether something was seen of some of these ids before."""
        known = [span for (product, _), seen in self._first.items() if product == product_id for span, _ in seen]
        return bool(id_ranges.common(wanted, known))

    def forget(self, product_id: str, found: list[IdRange]) -> None:
        """These ids turned up after all."""
        for key in [key for key in self._first if key[0] == product_id]:
            self._first[key] = [
                (rest, at) for span, at in self._first[key] for rest in id_ranges.without([span], found)
            ]
            if not self._first[key]:
                del self._first[key]


class Filler:
    """Fills spans of one venue's products. `publisher_of` gives the publisher of a product's trades topic."""

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
        """One walk over `wanted` (ascending), for about `budget_s` at most.

        What was published before an error is not lost, but the error is raised.
        """
        until = time.monotonic() + budget_s
        result = Filled()
        absent: list[IdRange] = []
        shown: list[IdRange] = []  # every id that an answer held, outside of what is wanted too
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
        """Tell what was not published apart, and publish what two looks agree on."""
        bad = id_ranges.without(id_ranges.of_ids(one.trade_id for one in result.bad), result.published)
        absent = id_ranges.without(id_ranges.common(absent, wanted), shown)
        # The walk passed ids on both sides, and these stood on no page and between no two rows of one: no cursor leads
        # to them (Kraken: more trades in one nanosecond than a page holds).
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
        """Claims about ids that will not come; they count when who looked signs them in the ledger."""
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
            raise Unavailable(f"the broker does not take messages for {publisher.topic}")
