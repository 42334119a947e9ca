"""Repair of missing trades: the ledger shows which, REST returns them, and they are published.

All state is in the ledger: a gap exists until its trades are stored or it is explained. A restart only loses first
looks, which are repeated. Repairs are published like all data, to the product's topic, with origin `repair`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any

import psycopg

from consumers.gap_filler.explanations import Explanations
from consumers.gap_filler.gap_tracker import GapTracker, Key
from consumers.gap_filler.heads import Heads
from consumers.gap_filler.health import GapHealth
from consumers.gap_filler.pools import VenuePools
from consumers.gap_filler.repairs import Repairs
from pipeline.broker.backpressure import Backpressure
from pipeline.broker.client import Bus
from pipeline.core import events, metrics
from pipeline.core.errors import PipelineError, Refused
from pipeline.core.log import get_logger
from pipeline.core.runtime import now_us
from pipeline.core.settings import DatabaseSettings, GapFillerSettings, load
from pipeline.core.stopping import Stopped
from pipeline.core.times import DAY_US
from pipeline.database.connection import connect_when_ready
from pipeline.database.ledger import IdGap, Ledger
from pipeline.database.session import Session
from venues import id_ranges
from venues.id_ranges import IdRange
from venues.trade_walk import ONE_WALK, TOO_OLD, Filled, Filler, Source

POLL_EVERY_S = 1.0
PIECE_S = 10.0
# Products of a venue repaired in parallel. Its rate limits determine the speed, this only the fairness.
WORKERS = 8
UNKNOWN_S = 1e9  # value of the metric for "never"
# A stored trade at most this many ids before a gap is a good place to start: five pages.
NEAR_IDS = 5_000


class GapFiller:
    """Polls the ledger once a second and submits each product with due gaps to a worker thread."""

    def __init__(
        self,
        sources: list[Source],
        bus: Bus,
        repairs: Repairs,
        configured: Iterable[Key],
        health: GapHealth,
        stop: threading.Event,
    ) -> None:
        self._stop = stop
        self._heads = Heads(sources, bus, configured, stop)
        self._settings = load(GapFillerSettings)
        self._log = get_logger()
        self._repairs = repairs
        self._fillers = {
            source.venue: Filler(
                source, partial(self._repairs.publisher, source.venue), "repair", self._settings.confirm_seconds
            )
            for source in sources
        }
        self._open_ids: dict[Key, int] = {}
        self._backpressure = Backpressure(stop)
        self._session = Session(lambda: connect_when_ready(load(DatabaseSettings), "gap-filler", stop))
        self._tracker = GapTracker(self._settings.reorder_seconds, self._settings.confirm_seconds)
        self._explanations = Explanations(self._unrepairable)
        self._working: dict[Key, Future[None]] = {}
        self.health = health

    def run(self) -> None:
        """Repair until stopped."""
        with VenuePools(self._fillers, WORKERS, "repair") as pools:
            while not self._stop.is_set():
                try:
                    self._poll(pools)
                except psycopg.Error as error:
                    self._log.warning(events.DATABASE_RETRY, error=str(error).strip())
                    self._session.close()
                self._stop.wait(POLL_EVERY_S)
        self._session.close()

    def _ledger(self) -> Ledger:
        """Return the ledger, on one connection shared by all threads."""
        return Ledger(self._session.connection())

    # -- polling -----------------------------------------------------------------------------------------------------

    def _poll(self, pools: VenuePools) -> None:
        ledger = self._ledger()
        self._heads.poll(ledger)
        self._explanations.sign(ledger)
        gaps = [gap for gap in ledger.trade_gaps() if gap.venue in self._fillers]
        now = time.monotonic()
        change = self._tracker.update(gaps, now)
        for gap in change.opened:
            self._log.info(events.GAP_OPENED, **_log_fields(gap))
            self._publish_event("opened", gap)
        for gap in change.repaired:
            self._log.info(events.GAP_REPAIRED, **_log_fields(gap))
            metrics.GAPS_REPAIRED.labels(gap.venue, gap.product_id).inc(gap.missing)
            self._publish_event("repaired", gap)
        self._update_metrics(gaps)
        self._working = {key: work for key, work in self._working.items() if not work.done()}
        for key, due in self._tracker.due(now).items():
            if key not in self._working:
                self._working[key] = pools.submit(key[0], self._repair, key, due)

    def _update_metrics(self, gaps: list[IdGap]) -> None:
        sizes = self._open_ids = dict.fromkeys(self._open_ids, 0)
        for gap in gaps:
            sizes[gap.venue, gap.product_id] = sizes.get((gap.venue, gap.product_id), 0) + gap.missing
        for (venue, product), size in sizes.items():
            metrics.GAPS_OPEN.labels(venue, product).set(size)
        ages = self._heads.ages()
        for (venue, product), age_s in ages.items():
            metrics.HEAD_AGE.labels(venue, product).set(min(age_s, UNKNOWN_S))
        self.health.record_poll("ids", sizes, ages, time.monotonic())

    def _publish_event(self, event: str, gap: IdGap, reason: str | None = None) -> None:
        key = (gap.venue, gap.product_id)
        self._repairs.publish_event(event, key, reason=reason, first_id=gap.first_id, last_id=gap.last_id)

    # -- one product -------------------------------------------------------------------------------------------------

    def _repair(self, key: Key, due: list[IdGap]) -> None:
        """Repair the newest due gaps of one product under its lock. Runs in a worker thread. Never raises."""
        venue, product = key
        try:
            with self._ledger().turn(f"{venue} {product}", self._stop, wait=False) as mine:
                if mine:
                    self._repair_newest(key, due)
        except Stopped:
            return
        except Refused as error:
            self._log.error(events.REQUEST_FAILED, venue=venue, product=product, error=str(error))
            self._tracker.postpone(key, [_span(gap) for gap in due], 60.0)
        except PipelineError as error:
            self._log.warning(events.REQUEST_FAILED, venue=venue, product=product, error=str(error))
            self._tracker.postpone(key, [_span(gap) for gap in due], 5.0)
        except (psycopg.OperationalError, psycopg.InterfaceError):
            return  # the next poll reports it and reconnects
        except Exception as error:  # a bug must not end all other repairs
            self._log.error(events.FAILED, venue=venue, product=product, error=f"{type(error).__name__}: {error}")
            self._tracker.postpone(key, [_span(gap) for gap in due], 60.0)

    def _repair_newest(self, key: Key, due: list[IdGap]) -> None:
        venue, product = key
        filler = self._fillers[venue]
        wanted = self._leave_out_old(filler, key, due)
        if not wanted:
            return
        cluster = id_ranges.newest_cluster(wanted, ONE_WALK)
        publisher = self._repairs.publisher(venue, product)
        if self._may_be_queued(publisher.topic, cluster, due):
            self._tracker.postpone(key, cluster, 5.0)
            return
        self._backpressure.wait(publisher.topic)
        before = self._ledger().trade_before(venue, product, cluster[0][0])
        # The time of a trade far before the gap says little about where to start.
        before_us = before[1] if before and cluster[0][0] - before[0] <= NEAR_IDS else None
        after_us = next((gap.after_us for gap in due if gap.last_id == cluster[-1][1]), None)
        filled = filler.fill(product, cluster, before_us, after_us, budget_s=PIECE_S)
        self._repairs.letters.send(venue, product, filled.bad)
        self._record_result(key, due, cluster, filled)

    def _may_be_queued(self, topic: str, cluster: list[IdRange], due: list[IdGap]) -> bool:
        """Return whether the trades may be in the writer's backlog, because they are the newest: fetching them again
        would only lengthen it."""
        at_head = all(gap.after_us is None for gap in due if gap.last_id == cluster[-1][1])
        return at_head and self._backpressure.behind(topic)

    def _record_result(self, key: Key, due: list[IdGap], cluster: list[IdRange], filled: Filled) -> None:
        venue, product = key
        self._tracker.published(key, [*filled.published, *filled.explained], time.monotonic())
        for reason, found in filled.findings.items():
            self._explanations.add(key, found, reason)
        if filled.complete:
            self._tracker.postpone(key, filled.waiting, self._settings.confirm_seconds)
            # Ids that the answers did not reach, because REST is behind the stream.
            rest = id_ranges.without(cluster, [*filled.published, *filled.explained, *filled.waiting])
            self._tracker.postpone(key, rest, 5.0)
        elif not (filled.published or filled.explained):
            self._tracker.postpone(key, cluster, 5.0)
        if filled.published:
            self._log.info(
                events.GAP_FILLED,
                venue=venue,
                product=product,
                ids=id_ranges.size(filled.published),
                absent=id_ranges.size(filled.waiting),
                missing=id_ranges.size([_span(gap) for gap in due]),
            )

    def _leave_out_old(self, filler: Filler, key: Key, due: list[IdGap]) -> list[IdRange]:
        """Return the ranges to fetch; ids older than the setting allows are recorded as `too_old`."""
        wanted: list[IdRange] = []
        for gap in due:
            old, unsure = self._too_old(filler, key, gap)
            if old:
                filler.publish_findings(gap.product_id, old, TOO_OLD)
                self._tracker.published(key, old, time.monotonic())
                self._explanations.add(key, old, TOO_OLD)
            self._tracker.postpone(key, unsure, self._settings.confirm_seconds)
            wanted += id_ranges.without([_span(gap)], [*old, *unsure])
        return id_ranges.merged(wanted)

    def _too_old(self, filler: Filler, key: Key, gap: IdGap) -> tuple[list[IdRange], list[IdRange]]:
        """Return the ids of a gap that are too old, and those that need a second look.

        Decided by the venue's clock, and only if ours agrees with it: a wrong clock must not explain anything. Never at
        the head, where no stored trade follows, and never for ids that a load requested, whatever their age: a load
        that was stopped would be called complete.
        """
        source, cutoff_us = filler.source, self._cutoff_us()
        before = self._ledger().trade_before(*key, gap.first_id)
        if not before or before[1] >= cutoff_us or not gap.after_us:
            return [], []
        newest = self._heads.newest(key) or source.newest_trade(gap.product_id)  # also gives the venue's time
        if not source.clock.agrees:
            return [], []
        both_sides_old = gap.after_us < cutoff_us
        first = gap.last_id + 1 if both_sides_old else source.first_id_at(gap.product_id, cutoff_us)
        # The stored trade after the gap is young enough, so an answer beyond it is wrong, and so is one without trades.
        if not gap.first_id < first <= min(gap.last_id, newest) + 1:
            return [], []
        reach = (gap.first_id, first - 1)
        old = id_ranges.without([reach], self._ledger().requested(*key, *reach))
        if both_sides_old:
            return old, []
        sure = filler.proofs.confirm(gap.product_id, old, time.monotonic(), TOO_OLD)
        return sure, id_ranges.without(old, sure)

    def _unrepairable(self, gap: IdGap, reason: str) -> None:
        self._tracker.unrepairable(gap)
        self._log.warning(events.GAP_UNREPAIRABLE, reason=reason, **_log_fields(gap))
        self._publish_event("unrepairable", gap, reason)

    def _cutoff_us(self) -> int:
        return now_us() - self._settings.max_age_days * DAY_US

    def close(self) -> None:
        """Call it after `run` has returned."""
        self._heads.close()


def _span(gap: IdGap) -> IdRange:
    return (gap.first_id, gap.last_id)


def _log_fields(gap: IdGap) -> dict[str, Any]:
    return {
        "venue": gap.venue,
        "product": gap.product_id,
        "first_id": gap.first_id,
        "last_id": gap.last_id,
        "missing": gap.missing,
    }
