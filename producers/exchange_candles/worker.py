"""The work on one exchange: ask for what the state does not cover, publish it, wait until it is stored.

Each exchange has its own thread and database connection, so that one that is down or slow holds nobody back.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from pipeline import events
from pipeline.bus import Bus
from pipeline.database import Connection, connect_when_ready
from pipeline.errors import Refused, Unavailable
from pipeline.ledger import Ledger
from pipeline.log import get_logger
from pipeline.process import now_us
from pipeline.publisher import Publisher
from pipeline.settings import DatabaseSettings
from pipeline.times import us_to_iso
from producers.brake import Brake
from producers.exchange_candles import pages, state
from producers.exchange_candles.exchange import GRACE_US, Exchange, Page
from producers.exchange_candles.state import Span
from producers.socket import Stopped

# The writer needs well under a second for a page. A run that ends gives up after this long without progress.
PATIENCE_S = 120.0
POLL_S = 0.1
SAY_EVERY_S = 10.0


@dataclass(frozen=True)
class Plan:
    """What a run is about."""

    granularity_s: int
    start_us: int
    quorum: dict[str, Any]
    patience_s: float | None = PATIENCE_S  # None: wait for the writer as long as it takes


@dataclass
class Outcome:
    """What a pass did."""

    calls: int = 0
    candles: int = 0  # published, also those that were stored before
    problems: list[str] = field(default_factory=list)


class Worker:
    """One exchange."""

    def __init__(
        self, exchange: Exchange, plan: Plan, bus: Bus, database: DatabaseSettings, stop: threading.Event
    ) -> None:
        self.exchange, self._plan, self._bus, self._database, self._stop = exchange, plan, bus, database, stop
        self.venue = exchange.venue
        self.last_answer = time.monotonic()
        self.problems: list[str] = []  # of the last pass
        self._conn: Connection | None = None
        self._publishers: dict[str, Publisher] = {}
        self._brake = Brake(stop)
        self._width_us = plan.granularity_s * 1_000_000
        self._log = get_logger().bind(venue=self.venue)
        self._said = 0.0
        # A name of its own for each process: a supervised one and one started by hand may publish side by side.
        self._name = f"exchange-candles-{os.getpid()}-{secrets.token_hex(3)}"

    def run_pass(self, products: Iterable[str]) -> Outcome:
        """Work on all products once. What goes wrong is in the outcome; returns early when stopped."""
        outcome = Outcome()
        try:
            if not self.exchange.loaded:
                self.exchange.load_markets()
            for product_id in products:
                if self.exchange.lists(product_id):
                    self._one(product_id, outcome)
            self.last_answer = time.monotonic()
        except Stopped:
            pass
        except (Unavailable, Refused) as error:
            if not self._stop.is_set():
                outcome.problems.append(f"{self.venue}: {error}")
                self._log.error(events.EXCHANGE_DOWN, error=str(error), kind=type(error).__name__)
        self.problems = outcome.problems
        return outcome

    def run_for_ever(self, products: Any, poll_s: float) -> None:
        """Passes until stopped, each a little after a multiple of `poll_s`; `products()` gives the present ones."""
        while not self._stop.is_set():
            self.run_pass(products())
            self._stop.wait(poll_s - time.time() % poll_s + 1.0 + GRACE_US / 1e6)

    def _one(self, product_id: str, outcome: Outcome) -> None:
        """One product, under its lock; again on a new connection where the database went away."""
        while not self._stop.is_set():
            try:
                if self._conn is None:
                    self._conn = connect_when_ready(self._database, self._name, self._stop)
                turn = f"candles {self.venue} {product_id} {self._plan.granularity_s}"
                with Ledger(self._conn).turn(turn, self._stop) as mine:
                    if mine:
                        self._load(self._conn, product_id, outcome)
                return
            except Refused as error:
                outcome.problems.append(f"{self.venue} {product_id}: {error}")
                self._log.error(events.REQUEST_FAILED, product=product_id, error=str(error))
                return
            except psycopg.OperationalError as error:
                self._log.warning(events.DATABASE_RETRY, error=str(error).strip(), retry_in_s=1.0)
                self.close()
                self._stop.wait(1.0)

    def _load(self, conn: Connection, product_id: str, outcome: Outcome) -> None:
        """Back-fill, then catch up with what was closed meanwhile, until nothing is open."""
        key = (self.venue, product_id, self._plan.granularity_s)
        if not self._tell_quorum(conn, product_id, outcome):
            return
        while not self._stop.is_set():
            end = pages.closed_end_us(now_us(), self._plan.granularity_s)
            published: list[Span] = []
            for from_us, to_us in state.open_spans(conn, *key, self._plan.start_us, end):
                published += self._fetch(product_id, from_us, to_us, outcome)
            if not published:
                return
            if not self._wait_until_stored(conn, product_id, published, outcome):
                return

    def _tell_quorum(self, conn: Connection, product_id: str, outcome: Outcome) -> bool:
        """A new quorum holds for what is stored too, whether or not there is anything to fetch."""

        def holds() -> bool:
            return state.quorum_holds(conn, product_id, self._plan.granularity_s, self._plan.quorum)

        if holds():
            return True
        self._publish(product_id, Page([], self._plan.quorum["as_of_us"]), None, 0, 0)
        return self._wait_for(holds, lambda: 0, product_id, outcome)

    def _fetch(self, product_id: str, from_us: int, to_us: int, outcome: Outcome) -> list[Span]:
        """Ask for `[from, to)` page by page and publish; gives what the answers covered."""
        # What one call brings is caught up; more is back-filled.
        size = self.exchange.page_size
        kind = "backfill" if to_us - from_us > size * self._width_us else "catch_up"
        published: list[Span] = []
        cursor = from_us
        while cursor < to_us and not self._stop.is_set():
            limit = pages.wanted(cursor, to_us, self._plan.granularity_s, size)
            page = self.exchange.page(product_id, self._plan.granularity_s, cursor, limit)
            self.last_answer = time.monotonic()
            outcome.calls += 1
            outcome.candles += len(page.rows)
            if page.rows and page.rows[0]["bucket_us"] >= cursor + limit * self._width_us:
                begins = us_to_iso(page.rows[0]["bucket_us"])
                self._log.warning(
                    events.HISTORY_BEGINS, product=product_id, asked_from=us_to_iso(cursor), first=begins,
                    text=f"{self.venue} gives no older candles of {product_id} than {begins}",
                )  # fmt: skip
            covered = pages.covered_to_us(page, cursor, limit, self._plan.granularity_s)
            if page.rows or covered > cursor:
                self._publish(product_id, page, f"{product_id}-{kind}", cursor, covered)
            if covered <= cursor:
                break
            published.append((cursor, covered))
            cursor = covered
            self._say(product_id, kind, from_us, cursor, to_us)
        return published

    def _publish(self, product_id: str, page: Page, key: str | None, from_us: int, to_us: int) -> None:
        if product_id not in self._publishers:
            self._publishers[product_id] = self._bus.publisher(
                "candles", self.venue, product_id, schema="candles", name=self._name, whole=True
            )
        publisher = self._publishers[product_id]
        self._brake.wait(publisher.topic)
        covers = to_us > from_us
        record = {
            "venue": self.venue, "product_id": product_id, "asset_class": "crypto", "origin": "history",
            "received_at_us": now_us(), "as_of_us": page.asked_at_us, "granularity_s": self._plan.granularity_s,
            "candles": page.rows, "state": key if covers else None, "covered_from_us": from_us if covers else None,
            "covered_to_us": to_us if covers else None, "quorum": self._plan.quorum,
        }  # fmt: skip
        publisher.send(record, key=product_id, wait=True)

    def _wait_until_stored(self, conn: Connection, product_id: str, spans: list[Span], outcome: Outcome) -> bool:
        key = (self.venue, product_id, self._plan.granularity_s)
        return self._wait_for(
            lambda: state.is_stored(conn, *key, spans),
            lambda: sum(b - a for a, b in state.open_spans(conn, *key, spans[0][0], spans[-1][1])),
            product_id,
            outcome,
        )

    def _wait_for(
        self, done: Callable[[], bool], open_us: Callable[[], int], product_id: str, outcome: Outcome
    ) -> bool:
        """Wait for the writer, as long as what is open gets less; False when it does not or the process stops."""
        last, since = -1, time.monotonic()
        while not self._stop.is_set():
            if done():
                return True
            rest = open_us()
            if rest != last:
                last, since = rest, time.monotonic()
            waited = time.monotonic() - since
            if self._plan.patience_s is not None and waited > self._plan.patience_s:
                outcome.problems.append(
                    f"{self.venue} {product_id}: published, not stored; is `python -m consumers.candles` running?"
                )
                return False
            if waited > SAY_EVERY_S and self._may_say():
                self._log.warning(events.WAITING, on="the candles writer", product=product_id, for_s=round(waited))
            self._stop.wait(POLL_S)
        return False

    def _say(self, product_id: str, kind: str, from_us: int, at_us: int, to_us: int) -> None:
        if self._may_say():
            share = min(1.0, (at_us - from_us) / (to_us - from_us))
            self._log.info(
                events.LOAD_PROGRESS, product=product_id, state=f"{product_id}-{kind}", up_to=us_to_iso(at_us),
                share=round(share, 3),
            )  # fmt: skip

    def _may_say(self) -> bool:
        if time.monotonic() - self._said < SAY_EVERY_S:
            return False
        self._said = time.monotonic()
        return True

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None
