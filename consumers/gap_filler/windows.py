"""Repair of trades that are proven by time: the stream is compared with REST, window by window.

REST is asked for each live product every few seconds, with overlap. What it shows and the ledger lacks is published. A
window is proven once everything that REST showed of it is stored; a later answer that shows more revokes the proof.
The ledger knows which products are live: those whose stream began (`trade_coverage.live_from`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

import psycopg

from consumers.gap_filler.gap_tracker import STORED_WITHIN_S, Key
from consumers.gap_filler.heads import seconds
from consumers.gap_filler.health import GapHealth
from consumers.gap_filler.pools import VenuePools
from consumers.gap_filler.product_head import LAG_KEPT_S
from consumers.gap_filler.repairs import Repairs
from pipeline.broker.backpressure import Backpressure
from pipeline.core import events, metrics
from pipeline.core.errors import PipelineError, Unavailable
from pipeline.core.log import get_logger
from pipeline.core.runtime import now_us
from pipeline.core.settings import DatabaseSettings, GapFillerSettings, load
from pipeline.core.stopping import Stopped
from pipeline.database import windows as ledger
from pipeline.database.connection import connect_when_ready
from pipeline.database.ledger import Ledger
from pipeline.database.session import Session
from pipeline.database.windows import LiveWindow
from schemas.records import TradeRow, TradesMessage
from venues.registry import adapter_of
from venues.trade_windows import SECOND_US, Compared, Recent, WindowSource, compare, lateness_us

POLL_EVERY_S = 1.0
# A product is compared this often, or less often: at most half of the venue's REST rate is used.
EVERY_S, SHARE_OF_CALLS = 10.0, 0.5
# Sooner after a repair, to see it stored.
SOON_S = 2.0
RETIRE_EVERY_S = 60.0
WORKERS = 4  # for each venue
MESSAGE_ROWS = 1000  # of a repair, as in a page of other venues
# When an answer arrives, it reaches back a little less than requested.
MARGIN_US = 5 * SECOND_US
# A long answer that did not help is not requested again during this share of its length.
HELD_SHARE = 1 / 6
UNKNOWN_S = 1e9  # value of the metric for "never"


@dataclass
class _Product:
    """What is remembered of a product, in memory only. Times are monotonic seconds."""

    due: float = 0.0  # when to compare next
    clock_us: int | None = None  # the venue's clock minus the monotonic one, at its last answer
    held: dict[int, float] = field(default_factory=dict)  # by reach in s: not to be requested before this time
    published: dict[int, float] = field(default_factory=dict)  # by id: when it was published
    missing: int = 0  # trades that REST showed and that were not stored, at the last comparison
    late_us: int = 0  # how late REST was seen to be, and until when this is remembered
    late_until: float = 0.0


def unproven_s(window: LiveWindow, known: _Product, now: float) -> float:
    """Return the seconds since the earliest moment that is not proven, by the venue's clock; infinite before its first
    answer.

    What was proven later does not count: trades may be missing in between.
    """
    return float("inf") if known.clock_us is None else now + (known.clock_us - window.open_us) / SECOND_US


class Windows:
    """Compares the products of these venues, from a thread of its own until `stop` is set.

    `configured`: products named in the settings; others are live as long as something of them is streamed.
    """

    def __init__(
        self,
        sources: Iterable[WindowSource],
        repairs: Repairs,
        configured: Iterable[Key],
        health: GapHealth,
        stop: threading.Event,
    ) -> None:
        self._sources = {source.venue: source for source in sources}
        self._configured, self._health, self._stop = frozenset(configured), health, stop
        self._repairs = repairs
        self._backpressure = Backpressure(stop)
        self._young_us = int(load(GapFillerSettings).reorder_seconds * SECOND_US)
        self._session = Session(lambda: connect_when_ready(load(DatabaseSettings), "gap-filler", stop))
        self._log = get_logger()
        self._products: dict[Key, _Product] = {}
        self._working: dict[Key, Future[None]] = {}
        self._retire_at = 0.0
        self._thread = threading.Thread(target=self._run, name="windows", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait for the thread to end. Call it after setting `stop`."""
        self._thread.join(5.0)

    def _run(self) -> None:
        with VenuePools(self._sources, WORKERS, "windows") as pools:
            while not self._stop.is_set():
                try:
                    self._poll(pools)
                except psycopg.Error as error:
                    self._log.warning(events.DATABASE_RETRY, error=str(error).strip())
                    self._session.close()
                except Stopped:
                    break
                self._stop.wait(POLL_EVERY_S)
        self._session.close()

    def _poll(self, pools: VenuePools) -> None:
        conn, now, names = self._session.connection(), time.monotonic(), list(self._sources)
        ledger.begin(conn, names)
        longest_s = max((source.reaches_s[-1] for source in self._sources.values()), default=0)
        found = ledger.live(conn, names, now_us() - longest_s * SECOND_US + MARGIN_US)
        if now >= self._retire_at:
            self._retire_at = now + RETIRE_EVERY_S
            self._retire(found)
        self._update_metrics(found, now)
        self._working = {key: work for key, work in self._working.items() if not work.done()}
        for window in found:
            key = (window.venue, window.product_id)
            known = self._products.setdefault(key, _Product())
            if now >= known.due and key not in self._working:
                calls_per_s = SHARE_OF_CALLS * self._sources[window.venue].calls_per_s
                known.due = now + max(EVERY_S, sum(other.venue == window.venue for other in found) / calls_per_s)
                self._working[key] = pools.submit(key[0], self._compare_product, window, known)

    def _retire(self, found: list[LiveWindow]) -> None:
        for window in found:
            key = (window.venue, window.product_id)
            if key not in self._configured and ledger.retire(self._session.connection(), window.instrument_id):
                self._log.info(events.PRODUCT_RETIRED, venue=window.venue, product=window.product_id)
                self._products.pop(key, None)

    def _update_metrics(self, found: list[LiveWindow], now: float) -> None:
        ages = {}
        for window in found:
            key = (window.venue, window.product_id)
            ages[key] = unproven_s(window, self._products.setdefault(key, _Product()), now)
        missing = {key: known.missing for key, known in self._products.items()}
        for (venue, product), age_s in ages.items():
            metrics.HEAD_AGE.labels(venue, product).set(min(age_s, UNKNOWN_S))
        for (venue, product), count in missing.items():
            metrics.GAPS_OPEN.labels(venue, product).set(count)
        self._health.record_poll("windows", missing, ages, now)

    # -- one product -------------------------------------------------------------------------------------------------

    def _compare_product(self, window: LiveWindow, known: _Product) -> None:
        """Compare one product under its lock. Runs in a worker thread. Never raises."""
        about = {"venue": window.venue, "product": window.product_id}
        try:
            turns = Ledger(self._session.connection())
            with turns.turn(f"{window.venue} {window.product_id}", self._stop, wait=False) as mine:
                if mine:
                    self._compare(window, known)
        except Stopped:
            return
        except PipelineError as error:
            self._log.warning(events.REQUEST_FAILED, **about, error=str(error))
        except (psycopg.OperationalError, psycopg.InterfaceError):
            return  # the next poll reports it and reconnects
        except Exception as error:  # a bug must not end all other repairs
            self._log.error(events.FAILED, **about, error=f"{type(error).__name__}: {error}")

    def _compare(self, window: LiveWindow, known: _Product) -> None:
        """Ask REST back to the earliest moment that is not proven, and further if the answer does not reach it."""
        source, now = self._sources[window.venue], time.monotonic()
        # The shortest reach is never held.
        usable = [reach_s for reach_s in source.reaches_s if now >= known.held.get(reach_s, 0.0)]
        if known.clock_us is None:  # the first answer will tell how long ago it was by the venue's clock
            wanted = usable[:1]
        else:
            open_s = unproven_s(window, known, now) + MARGIN_US / SECOND_US
            wanted = [reach_s for reach_s in usable if reach_s >= open_s] or usable[-1:]
        for reach_s in wanted:
            result = self._ask(window, known, reach_s)
            if result.missing or (result.covered and result.covered[0] <= window.open_us):
                return
            if reach_s > source.reaches_s[0]:
                known.held[reach_s] = now + reach_s * HELD_SHARE

    def _ask(self, window: LiveWindow, known: _Product, reach_s: int) -> Compared:
        """Compare one answer, publish what is missing, and record what is proven."""
        key, asked_at = (window.venue, window.product_id), seconds()
        recent = self._sources[window.venue].recent(window.product_id, reach_s)
        known.clock_us = (now_us() if recent.at_us is None else recent.at_us) - round(time.monotonic() * SECOND_US)
        conn, page = self._session.connection(), recent.page
        unknown = ledger.unknown_ids(conn, *key, page.ids)
        self._repairs.letters.send(*key, [bad for bad in page.bad if bad.trade_id in unknown])
        late_us = self._late_us(window, known, recent)
        result = compare(recent, unknown, window.live_us, window.newest_us, self._young_us, late_us)
        ledger.prove(conn, window.instrument_id, result.covered, result.lost, seconds() - asked_at)
        if result.missing:
            known.due = time.monotonic() + SOON_S
            self._publish(window, known, result.missing)
        elif known.missing and result.covered:
            self._log.info(events.GAP_REPAIRED, venue=key[0], product=key[1], missing=known.missing)
            metrics.GAPS_REPAIRED.labels(*key).inc(known.missing)
            self._repairs.publish_event("repaired", key, from_us=result.covered[0], to_us=result.covered[1])
        if result.missing or result.covered:
            known.missing = len(result.missing)
        return result

    def _late_us(self, window: LiveWindow, known: _Product, recent: Recent) -> int:
        """Return how late REST was seen to be within the last `LAG_KEPT_S`."""
        now, newest_us = time.monotonic(), max((row.timestamp_us for row in recent.page.rows), default=0)
        before_us = known.late_us if now < known.late_until else 0
        newer_us = ledger.first_after(self._session.connection(), window.instrument_id, newest_us + SECOND_US)
        known.late_us = lateness_us(recent, before_us, newer_us)
        if known.late_us > before_us:
            known.late_until = now + LAG_KEPT_S
        return known.late_us

    def _publish(self, window: LiveWindow, known: _Product, missing: list[TradeRow]) -> None:
        """Publish the missing trades, except those published within `STORED_WITHIN_S`."""
        key, now = (window.venue, window.product_id), time.monotonic()
        known.published = {number: at for number, at in known.published.items() if now - at < STORED_WITHIN_S}
        rows = [row for row in missing if row.trade_id not in known.published]
        publisher = self._repairs.publisher(*key)
        newer = window.newest_us is None or any(row.timestamp_us > window.newest_us for row in rows)
        # They may be in the writer's backlog: publishing them again would only lengthen it.
        if not rows or (newer and self._backpressure.behind(publisher.topic)):
            return
        if not known.missing:
            about = {"first_id": rows[0].trade_id, "last_id": rows[-1].trade_id}
            self._log.info(events.GAP_OPENED, venue=key[0], product=key[1], missing=len(missing), **about)
            from_us, to_us = rows[0].timestamp_us, rows[-1].timestamp_us + SECOND_US
            self._repairs.publish_event("opened", key, from_us=from_us, to_us=to_us)
        asset_class = adapter_of(window.venue).asset_class(window.product_id)
        for first in range(0, len(rows), MESSAGE_ROWS):
            self._backpressure.wait(publisher.topic)
            part = rows[first : first + MESSAGE_ROWS]
            message = TradesMessage(*key, asset_class, "repair", now_us(), part)
            if not publisher.send(message, key=key[1], wait=True):
                raise Unavailable(f"the broker does not accept messages for {publisher.topic}")
            known.published |= {row.trade_id: now for row in part}
        self._log.info(events.GAP_FILLED, venue=key[0], product=key[1], ids=len(rows), missing=len(missing))
