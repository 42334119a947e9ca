"""Missing trade ids, found in the ledger, fetched from the venue and published again. `python -m consumers.gap_filler`

All state is the ledger: a hole is there until the trades around it are joined or it is explained. So a restart loses
nothing but the memory of first answers, which are then asked for again. Repairs take the road of all data, over the
topic of the product, with origin `repair`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import click
import psycopg

from consumers.gap_book import GapBook, Key
from pipeline import events, metrics
from pipeline.bootstrap import broker_when_ready
from pipeline.bus import Bus
from pipeline.database import Connection, connect_when_ready
from pipeline.errors import PipelineError, Refused, Unavailable
from pipeline.health import HealthServer
from pipeline.ledger import IdGap, Ledger
from pipeline.log import get_logger
from pipeline.migrate import database_when_ready
from pipeline.process import Stop, now_us, program
from pipeline.programs import BY_NAME
from pipeline.publisher import Publisher
from pipeline.settings import (
    CoinbaseSettings,
    CommonSettings,
    DatabaseSettings,
    GapFillerSettings,
    KrakenSettings,
    PulsarSettings,
    load,
)
from pipeline.topics import GAPS_TOPIC, full_name
from producers import spans
from producers.brake import Brake
from producers.coinbase.rest import CoinbaseRest
from producers.filling import ONE_WALK, TOO_OLD, VENUE_HAS_NONE, Filled, Filler, Source
from producers.kraken.rest import KrakenRest
from producers.socket import Stopped
from producers.spans import Span

LOOK_EVERY_S = 1.0
PIECE_S = 10.0
# Products that are repaired at the same time. The venues' limits decide how fast, this only how fair.
WORKERS = 8
DAY_US = 86_400_000_000
# The filler is not well when the ledger could not be read for so long.
LEDGER_WITHIN_S = 60.0


class GapFiller:
    """Looks at the ledger once a second and gives each product with due holes to a worker."""

    def __init__(self, sources: list[Source], bus: Bus, stop: threading.Event) -> None:
        self._bus, self._stop = bus, stop
        self._settings = load(GapFillerSettings)
        self._log = get_logger()
        self._publishers: dict[Key, Publisher] = {}
        self._publishing, self._connecting = threading.Lock(), threading.Lock()
        self._fillers = {
            source.venue: Filler(source, self._publisher_of(source.venue), "repair", self._settings.confirm_seconds)
            for source in sources
        }
        self._control = bus.publisher_to(
            full_name(bus.settings.tenant, "control", GAPS_TOPIC), "gap", f"gap-filler-{os.getpid()}"
        )
        self._brake = Brake(stop)
        self._conn: Connection | None = None
        self._book = GapBook(self._settings.reorder_seconds, self._settings.confirm_seconds)
        self._working: dict[Key, Future[None]] = {}
        self.looked: float | None = None
        self.open_ids: dict[Key, int] = {}

    def run(self) -> None:
        """Until stopped."""
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="repair") as pool:
            while not self._stop.is_set():
                try:
                    self._look(pool)
                except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                    self._log.warning(events.DATABASE_RETRY, error=str(error).strip())
                    self._disconnect()
                self._stop.wait(LOOK_EVERY_S)
        self._disconnect()

    def _ledger(self) -> Ledger:
        """Over one connection for all threads; psycopg lets them take turns."""
        with self._connecting:
            if self._conn is None or self._conn.closed:
                self._conn = connect_when_ready(load(DatabaseSettings), "gap-filler", self._stop)
            return Ledger(self._conn)

    def _disconnect(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _publisher_of(self, venue: str) -> Callable[[str], Publisher]:
        def publisher(product: str) -> Publisher:
            with self._publishing:
                if (venue, product) not in self._publishers:
                    name = f"{venue}-repair-{os.getpid()}"
                    self._publishers[venue, product] = self._bus.publisher(
                        "trades", venue, product, schema="trades", name=name
                    )
                return self._publishers[venue, product]

        return publisher

    # -- looking -----------------------------------------------------------------------------------------------------

    def _look(self, pool: ThreadPoolExecutor) -> None:
        gaps = [gap for gap in self._ledger().trade_gaps() if gap.venue in self._fillers]
        now = time.monotonic()
        self.looked = now
        change = self._book.see(gaps, now)
        for gap in change.opened:
            self._log.info(events.GAP_OPENED, **_ids(gap))
            self._tell("opened", gap)
        for gap in change.repaired:
            self._log.info(events.GAP_REPAIRED, **_ids(gap))
            metrics.GAPS_REPAIRED.labels(gap.venue, gap.product_id).inc(gap.missing)
            self._tell("repaired", gap)
        self._measure(gaps)
        self._working = {key: work for key, work in self._working.items() if not work.done()}
        for key, due in self._book.due(now).items():
            if key not in self._working:
                self._working[key] = pool.submit(self._work, key, due)

    def _measure(self, gaps: list[IdGap]) -> None:
        sizes: dict[Key, int] = dict.fromkeys(self.open_ids, 0)
        for gap in gaps:
            sizes[gap.venue, gap.product_id] = sizes.get((gap.venue, gap.product_id), 0) + gap.missing
        for (venue, product), size in sizes.items():
            metrics.GAPS_OPEN.labels(venue, product).set(size)
        self.open_ids = sizes

    def _tell(self, event: str, gap: IdGap, reason: str | None = None) -> None:
        record = {
            "event": event, "venue": gap.venue, "product_id": gap.product_id, "first_id": gap.first_id,
            "last_id": gap.last_id, "from_us": None, "to_us": None, "reason": reason, "at_us": now_us(),
        }  # fmt: skip
        self._control.send(record, key=gap.product_id)

    # -- one product -------------------------------------------------------------------------------------------------

    def _work(self, key: Key, due: list[IdGap]) -> None:
        """In a worker: the newest due holes of one product, under its lock. Never raises."""
        venue, product = key
        try:
            with self._ledger().turn(f"{venue} {product}", self._stop, wait=False) as mine:
                if mine:
                    self._fill(key, due)
        except Stopped:
            return
        except Refused as error:
            self._log.error(events.REQUEST_FAILED, venue=venue, product=product, error=str(error))
            self._book.put_off(key, [_span(gap) for gap in due], 60.0)
        except PipelineError as error:
            self._log.warning(events.REQUEST_FAILED, venue=venue, product=product, error=str(error))
            self._book.put_off(key, [_span(gap) for gap in due], 5.0)
        except (psycopg.OperationalError, psycopg.InterfaceError):
            return  # the next look says it and connects again
        except Exception as error:  # a mistake of ours must not end the repair of everything else
            self._log.error(events.FAILED, venue=venue, product=product, error=f"{type(error).__name__}: {error}")
            self._book.put_off(key, [_span(gap) for gap in due], 60.0)

    def _fill(self, key: Key, due: list[IdGap]) -> None:
        venue, product = key
        filler = self._fillers[venue]
        wanted = self._leave_out_old(filler, key, due)
        if not wanted:
            return
        cluster = spans.newest_cluster(wanted, ONE_WALK)
        self._brake.wait(self._publisher_of(venue)(product).topic)
        before_us = self._ledger().time_before_us(venue, product, cluster[0][0])
        if before_us is not None:  # what lies before the limit of age was left out
            before_us = max(before_us, self._cutoff_us())
        after_us = next((gap.after_us for gap in due if gap.last_id == cluster[-1][1]), None)
        filled = filler.fill(product, cluster, before_us, after_us, budget_s=PIECE_S)
        self._note(key, due, cluster, filled)

    def _note(self, key: Key, due: list[IdGap], cluster: list[Span], filled: Filled) -> None:
        venue, product = key
        self._book.published(key, [*filled.published, *filled.holes], time.monotonic())
        for first, last in filled.holes:
            self._unrepairable(IdGap(venue, product, first, last, None, None), VENUE_HAS_NONE)
        if filled.complete:
            self._book.put_off(key, filled.absent, self._settings.confirm_seconds)
            # What the answers did not reach: REST is behind the stream.
            rest = spans.without(cluster, [*filled.published, *filled.holes, *filled.absent])
            self._book.put_off(key, rest, 5.0)
        if filled.published:
            self._log.info(
                events.GAP_FILLED, venue=venue, product=product, ids=spans.size(filled.published),
                absent=spans.size(filled.absent), missing=spans.size([_span(gap) for gap in due]),
            )  # fmt: skip

    def _leave_out_old(self, filler: Filler, key: Key, due: list[IdGap]) -> list[Span]:
        """The spans to fill; what is further back than the setting allows is recorded as such."""
        venue, product = key
        cutoff_us = self._cutoff_us()
        wanted: list[Span] = []
        for gap in due:
            first = gap.first_id
            before_us = self._ledger().time_before_us(venue, product, gap.first_id)
            if gap.after_us is not None and gap.after_us < cutoff_us:
                first = gap.last_id + 1
            elif before_us is not None and before_us < cutoff_us:
                first = min(gap.last_id + 1, max(first, filler.source.first_id_at(product, cutoff_us)))
            if first > gap.first_id:
                old = (gap.first_id, first - 1)
                filler.publish_holes(product, [old], TOO_OLD)
                self._book.published(key, [old], time.monotonic())
                self._unrepairable(IdGap(venue, product, *old, before_us, None), TOO_OLD)
            if first <= gap.last_id:
                wanted.append((first, gap.last_id))
        return spans.merged(wanted)

    def _cutoff_us(self) -> int:
        return now_us() - self._settings.max_age_days * DAY_US

    def _unrepairable(self, gap: IdGap, reason: str) -> None:
        self._book.unrepairable(gap)
        self._log.warning(events.GAP_UNREPAIRABLE, reason=reason, **_ids(gap))
        self._tell("unrepairable", gap, reason)

    def close(self) -> None:
        """Give the broker a moment for what was published last."""
        for publisher in [*self._publishers.values(), self._control]:
            publisher.flush(1.0)


def _span(gap: IdGap) -> Span:
    return (gap.first_id, gap.last_id)


def _ids(gap: IdGap) -> dict[str, Any]:
    return {
        "venue": gap.venue, "product": gap.product_id, "first_id": gap.first_id, "last_id": gap.last_id,
        "missing": gap.missing,
    }  # fmt: skip


@dataclass
class FillerHealth:
    """Well while the ledger can be read."""

    filler: GapFiller | None = None

    def report(self) -> tuple[bool, dict[str, Any]]:
        filler = self.filler
        if filler is None or filler.looked is None:
            return False, {"why": ["waiting for broker and database"]}
        age_s = time.monotonic() - filler.looked
        well = age_s <= LEDGER_WITHIN_S
        gaps = {f"{venue} {product}": size for (venue, product), size in filler.open_ids.items() if size}
        why = [] if well else [f"the ledger was last read {age_s:.0f} s ago"]
        return well, {"open_ids": gaps, "ledger_read_age_s": round(age_s, 1), "why": why}


@click.command()
@program("gap-filler")
def main() -> int:
    """Repair missing trades of Kraken and Coinbase."""
    stop = Stop().listen()
    log = get_logger()
    health = FillerHealth()
    server = HealthServer("gap-filler", BY_NAME["gap-filler"].port, health.report)
    log.info(events.STARTED, health_port=server.port)
    state_dir = load(CommonSettings).state_dir
    # Few attempts: a worker that waits long for one hole keeps the newer ones waiting.
    sources: list[Source] = [
        KrakenRest(load(KrakenSettings), state_dir, stop, attempts=3),
        CoinbaseRest(load(CoinbaseSettings), state_dir, stop, attempts=3),
    ]
    settings = load(PulsarSettings)
    broker_when_ready(settings, stop)
    database_when_ready(load(DatabaseSettings), stop)
    bus = Bus(settings, stop)
    try:
        filler = health.filler = GapFiller(sources, bus, stop)
        filler.run()
        filler.close()
    except Unavailable:
        if not stop.is_set():
            raise
    finally:
        bus.close()
        server.close()
    log.info(events.STOPPED)
    return 0


if __name__ == "__main__":
    main()
