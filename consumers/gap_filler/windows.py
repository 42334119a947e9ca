"""The repair of trades that are proven by time: the stream is compared with REST, window by window.

Each live product is asked for every few seconds, with overlap: what REST shows and the ledger has not is published
again, and a time is proven once all that REST showed of it is stored. What a later answer shows besides takes the proof
back.
Which products are live the ledger says: those whose stream began (`trade_coverage.live_from`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import psycopg

from consumers.gap_filler.gap_tracker import STORED_WITHIN_S, Key
from consumers.gap_filler.heads import seconds
from consumers.gap_filler.health import GapHealth
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

LOOK_EVERY_S = 1.0
# A product is compared this often, or as often as half of the venue's calls allow ...
EVERY_S, SHARE_OF_CALLS = 10.0, 0.5
# ... and this soon after something was published again, to see it stored.
SOON_S = 2.0
RETIRE_EVERY_S = 60.0
WORKERS = 4  # for each venue
MESSAGE_ROWS = 1000  # of a repair, as in a page of other venues
# Answers reach back a little less than what they were asked for, by the time they are here.
MARGIN_US = 5 * SECOND_US
# A long answer that did not help is not asked for again during this share of its length.
HELD_SHARE = 1 / 6
UNKNOWN_S = 1e9  # as a metric: never so far


@dataclass
class _Product:
    """What is remembered of a product; lost with the process. Times are monotonic seconds."""

    due: float = 0.0
    clock_us: int | None = None  # the venue's clock minus the monotonic one, at its last answer
    held: dict[int, float] = field(default_factory=dict)  # by reach: not asked for before
    published: dict[int, float] = field(default_factory=dict)  # by id
    missing: int = 0  # trades that REST showed and nobody has stored, at the last look
    late_us: int = 0  # how late REST was seen to be, and until when that is remembered
    late_until: float = 0.0


def unproven_s(one: LiveWindow, known: _Product, now: float) -> float:
    """Seconds since the earliest moment that is not proven, by the venue's clock; infinite before its first answer.

    What was proven later counts for nothing here: trades may be missing in between.
    """
    return float("inf") if known.clock_us is None else now + (known.clock_us - one.open_us) / SECOND_US


class Windows:
    """Compares the products of these venues. `configured`: those that the settings name; others are live as long as
    something is streamed of them."""

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
        """After `stop` is set."""
        self._thread.join(5.0)

    def _run(self) -> None:
        with ExitStack() as stack:
            pools = {
                venue: stack.enter_context(ThreadPoolExecutor(WORKERS, thread_name_prefix=f"windows-{venue}"))
                for venue in self._sources
            }
            while not self._stop.is_set():
                try:
                    self._look(pools)
                except psycopg.Error as error:
                    self._log.warning(events.DATABASE_RETRY, error=str(error).strip())
                    self._session.close()
                except Stopped:
                    break
                self._stop.wait(LOOK_EVERY_S)
        self._session.close()

    def _look(self, pools: Mapping[str, ThreadPoolExecutor]) -> None:
        conn, now, names = self._session.connection(), time.monotonic(), list(self._sources)
        ledger.begin(conn, names)
        longest_s = max((source.reaches_s[-1] for source in self._sources.values()), default=0)
        found = ledger.live(conn, names, now_us() - longest_s * SECOND_US + MARGIN_US)
        if now >= self._retire_at:
            self._retire_at = now + RETIRE_EVERY_S
            self._retire(found)
        self._measure(found, now)
        self._working = {key: work for key, work in self._working.items() if not work.done()}
        for one in found:
            key = (one.venue, one.product_id)
            known = self._products.setdefault(key, _Product())
            if now >= known.due and key not in self._working:
                calls_per_s = SHARE_OF_CALLS * self._sources[one.venue].calls_per_s
                known.due = now + max(EVERY_S, sum(w.venue == one.venue for w in found) / calls_per_s)
                self._working[key] = pools[key[0]].submit(self._work, one, known)

    def _retire(self, found: list[LiveWindow]) -> None:
        for one in found:
            key = (one.venue, one.product_id)
            if key not in self._configured and ledger.retire(self._session.connection(), one.instrument_id):
                self._log.info(events.PRODUCT_RETIRED, venue=one.venue, product=one.product_id)
                self._products.pop(key, None)

    def _measure(self, found: list[LiveWindow], now: float) -> None:
        ages = {}
        for one in found:
            key = (one.venue, one.product_id)
            ages[key] = unproven_s(one, self._products.setdefault(key, _Product()), now)
        missing = {key: known.missing for key, known in self._products.items()}
        for (venue, product), age_s in ages.items():
            metrics.HEAD_AGE.labels(venue, product).set(min(age_s, UNKNOWN_S))
        for (venue, product), count in missing.items():
            metrics.GAPS_OPEN.labels(venue, product).set(count)
        self._health.looked("windows", missing, ages, now)

    # -- one product -------------------------------------------------------------------------------------------------

    def _work(self, one: LiveWindow, known: _Product) -> None:
        """In a worker, under the product's lock. Never raises."""
        about = {"venue": one.venue, "product": one.product_id}
        try:
            turn = Ledger(self._session.connection()).turn(f"{one.venue} {one.product_id}", self._stop, wait=False)
            with turn as mine:
                if mine:
                    self._compare(one, known)
        except Stopped:
            return
        except PipelineError as error:
            self._log.warning(events.REQUEST_FAILED, **about, error=str(error))
        except (psycopg.OperationalError, psycopg.InterfaceError):
            return  # the next look says it and connects again
        except Exception as error:  # a mistake of ours must not end the repair of everything else
            self._log.error(events.FAILED, **about, error=f"{type(error).__name__}: {error}")

    def _compare(self, one: LiveWindow, known: _Product) -> None:
        """Ask as far back as the earliest moment that is not proven, and further where the answer does not reach it."""
        source, now = self._sources[one.venue], time.monotonic()
        # The shortest is never held.
        usable = [reach_s for reach_s in source.reaches_s if now >= known.held.get(reach_s, 0.0)]
        if known.clock_us is None:  # how long ago it was by the venue's clock, the first answer will say
            wanted = usable[:1]
        else:
            open_s = unproven_s(one, known, now) + MARGIN_US / SECOND_US
            wanted = [reach_s for reach_s in usable if reach_s >= open_s] or usable[-1:]
        for reach_s in wanted:
            result = self._ask(one, known, reach_s)
            if result.missing or (result.covered and result.covered[0] <= one.open_us):
                return
            if reach_s > source.reaches_s[0]:
                known.held[reach_s] = now + reach_s * HELD_SHARE

    def _ask(self, one: LiveWindow, known: _Product, reach_s: int) -> Compared:
        key, asked_at = (one.venue, one.product_id), seconds()
        recent = self._sources[one.venue].recent(one.product_id, reach_s)
        known.clock_us = (now_us() if recent.at_us is None else recent.at_us) - round(time.monotonic() * SECOND_US)
        conn, page = self._session.connection(), recent.page
        unknown = ledger.unknown_ids(conn, *key, page.ids)
        self._repairs.letters.send(*key, [bad for bad in page.bad if bad.trade_id in unknown])
        late_us = self._late_us(one, known, recent)
        result = compare(recent, unknown, one.live_us, one.newest_us, self._young_us, late_us)
        ledger.prove(conn, one.instrument_id, result.covered, result.lost, seconds() - asked_at)
        if result.missing:
            known.due = time.monotonic() + SOON_S
            self._publish(one, known, result.missing)
        elif known.missing and result.covered:
            self._log.info(events.GAP_REPAIRED, venue=key[0], product=key[1], missing=known.missing)
            metrics.GAPS_REPAIRED.labels(*key).inc(known.missing)
            self._repairs.tell("repaired", key, from_us=result.covered[0], to_us=result.covered[1])
        if result.missing or result.covered:
            known.missing = len(result.missing)
        return result

    def _late_us(self, one: LiveWindow, known: _Product, recent: Recent) -> int:
        """How late REST was seen to be, within the last minutes."""
        now, newest_us = time.monotonic(), max((row.timestamp_us for row in recent.page.rows), default=0)
        before_us = known.late_us if now < known.late_until else 0
        newer_us = ledger.first_after(self._session.connection(), one.instrument_id, newest_us + SECOND_US)
        known.late_us = lateness_us(recent, before_us, newer_us)
        if known.late_us > before_us:
            known.late_until = now + LAG_KEPT_S
        return known.late_us

    def _publish(self, one: LiveWindow, known: _Product, missing: list[TradeRow]) -> None:
        """Publish what was not published within the last minute."""
        key, now = (one.venue, one.product_id), time.monotonic()
        known.published = {number: at for number, at in known.published.items() if now - at < STORED_WITHIN_S}
        rows = [row for row in missing if row.trade_id not in known.published]
        publisher = self._repairs.publisher(*key)
        newer = one.newest_us is None or any(row.timestamp_us > one.newest_us for row in rows)
        # Behind a backlog of the writer they may be on their way: published again, they would only lengthen it.
        if not rows or (newer and self._backpressure.behind(publisher.topic)):
            return
        if not known.missing:
            about = {"first_id": rows[0].trade_id, "last_id": rows[-1].trade_id}
            self._log.info(events.GAP_OPENED, venue=key[0], product=key[1], missing=len(missing), **about)
            self._repairs.tell("opened", key, from_us=rows[0].timestamp_us, to_us=rows[-1].timestamp_us + SECOND_US)
        asset_class = adapter_of(one.venue).asset_class(one.product_id)
        for first in range(0, len(rows), MESSAGE_ROWS):
            self._backpressure.wait(publisher.topic)
            part = rows[first : first + MESSAGE_ROWS]
            message = TradesMessage(*key, asset_class, "repair", now_us(), part)
            if not publisher.send(message, key=key[1], wait=True):
                raise Unavailable(f"the broker does not accept messages for {publisher.topic}")
            known.published |= {row.trade_id: now for row in part}
        self._log.info(events.GAP_FILLED, venue=key[0], product=key[1], ids=len(rows), missing=len(missing))
