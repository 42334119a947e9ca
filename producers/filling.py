"""Missing trade ids, asked of a venue's REST interface and published: what a load by command and the gap filler share.

A source walks pages over a run of ids. What lies in the wanted spans is published at once, so a walk that ends early
has published what it got. An id that an answer does not hold, though it holds ids on both sides, is absent; two such
answers `confirm_s` apart make it the venue's own hole, which is published as a finding.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline import metrics
from pipeline.process import now_us
from pipeline.products import AssetClass, Origin
from pipeline.publisher import Publisher
from producers import spans
from producers.frames import Row
from producers.spans import Span

VENUE_HAS_NONE = "venue_has_none"
TOO_OLD = "too_old"
# Spans closer together than this are passed in one walk: a page holds 1000 trades.
ONE_WALK = 700
# Before ids are called nonexistent, they are looked for this much earlier: times need not rise with the ids.
SECOND_LOOK_US = 10_000_000


class Source(Protocol):
    """A venue's trades by REST. Everything raises `Refused`, `Unavailable` or `producers.socket.Stopped`."""

    venue: str
    page_rows: int
    calls_per_s: float

    def newest_trade(self, product_id: str) -> int:
        """Its id."""

    def first_id_at(self, product_id: str, at_us: int) -> int:
        """The smallest id with a venue time >= `at_us`; one more than the newest where there is none."""

    def pages(
        self, product_id: str, first_id: int, last_id: int, before_us: int | None, after_us: int | None
    ) -> Iterator[list[Row]]:
        """Pages that pass `first_id..last_id` and, where the venue can, ids on both sides; neighbours overlap.

        `before_us`, `after_us`: venue times at or before the first, at or after the last id, where known.
        """


@dataclass
class Filled:
    """What one walk brought."""

    published: list[Span] = field(default_factory=list)
    absent: list[Span] = field(default_factory=list)  # proven by one answer so far
    holes: list[Span] = field(default_factory=list)  # proven twice, published as such
    complete: bool = False  # the walk was not cut short by its budget


class Proofs:
    """When an answer first showed that ids do not exist. Lost with the process: then it is asked twice again."""

    def __init__(self, confirm_s: float) -> None:
        self._confirm_s = confirm_s
        self._first: defaultdict[str, list[tuple[Span, float]]] = defaultdict(list)

    def confirm(self, product_id: str, absent: list[Span], now: float) -> list[Span]:
        """The part of `absent` that was absent at least `confirm_s` ago too; the rest is remembered from now on."""
        known = self._first[product_id]
        old = [span for span, at in known if now - at >= self._confirm_s]
        confirmed = spans.common(absent, old)
        fresh = spans.without(absent, [span for span, _ in known])
        self._first[product_id] = [(rest, at) for span, at in known for rest in spans.without([span], confirmed)] + [
            (span, now) for span in fresh
        ]
        return confirmed

    def pending(self, product_id: str, wanted: list[Span]) -> bool:
        """Whether some of these ids were absent before."""
        return bool(spans.common(wanted, [span for span, _ in self._first[product_id]]))

    def forget(self, product_id: str, found: list[Span]) -> None:
        """These ids turned up after all."""
        known = self._first[product_id]
        self._first[product_id] = [(rest, at) for span, at in known for rest in spans.without([span], found)]


class Filler:
    """Fills spans of one venue's products. `publisher_of` gives the publisher of a product's trades topic."""

    def __init__(
        self, source: Source, publisher_of: Callable[[str], Publisher], origin: Origin, confirm_s: float,
        asset_class: AssetClass = "crypto",
    ) -> None:  # fmt: skip
        self.source, self.proofs = source, Proofs(confirm_s)
        self._publisher_of, self._origin, self._asset_class = publisher_of, origin, asset_class

    def fill(
        self, product_id: str, wanted: list[Span], before_us: int | None, after_us: int | None, *,
        budget_s: float, on_rows: Callable[[int], None] = lambda rows: None,
    ) -> Filled:  # fmt: skip
        """One walk over `wanted` (ascending), for about `budget_s` at most.

        What was published before an error is not lost, but the error is raised.
        """
        until = time.monotonic() + budget_s
        result = Filled()
        absent: list[Span] = []
        if before_us is not None and self.proofs.pending(product_id, wanted):
            before_us -= SECOND_LOOK_US
        walk = self.source.pages(product_id, wanted[0][0], wanted[-1][1], before_us, after_us)
        for rows in walk:
            fresh: dict[int, Row] = {}
            for row in rows:
                number = row["trade_id"]
                if spans.contains(wanted, number) and not spans.contains(result.published, number):
                    fresh[number] = row
            if fresh:
                self._publish(product_id, [fresh[number] for number in sorted(fresh)], [])
                result.published = spans.merged([*result.published, *spans.of_ids(fresh)])
                on_rows(len(fresh))
            absent += spans.between(row["trade_id"] for row in rows)
            if time.monotonic() > until:
                break
        else:
            result.complete = True
        self.proofs.forget(product_id, result.published)
        absent = spans.without(spans.common(absent, wanted), result.published)
        result.holes = self.proofs.confirm(product_id, absent, time.monotonic())
        result.absent = spans.without(absent, result.holes)
        self.publish_holes(product_id, result.holes, VENUE_HAS_NONE)
        return result

    def publish_holes(self, product_id: str, holes: list[Span], reason: str) -> None:
        """Findings: ids that exist nowhere, or are not asked for again."""
        if not holes:
            return
        at = now_us()
        findings = [
            {"first_id": first, "last_id": last, "reason": reason, "confirmed_at_us": at} for first, last in holes
        ]
        self._publish(product_id, [], findings)
        metrics.GAPS_UNREPAIRABLE.labels(self.source.venue, product_id, reason).inc(spans.size(holes))

    def _publish(self, product_id: str, rows: list[Row], holes: list[dict[str, Any]]) -> None:
        record = {
            "venue": self.source.venue, "product_id": product_id, "asset_class": self._asset_class,
            "origin": self._origin, "received_at_us": now_us(), "trades": rows, "holes": holes,
        }  # fmt: skip
        self._publisher_of(product_id).send(record, key=product_id, wait=True)
