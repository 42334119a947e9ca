"""The worker of one exchange: fetch what the state does not cover, publish it, wait until it is stored.

A candle is published as final after two equal looks (`looks`); before that, while recent, as not final. First looks are
kept in memory only: a restart costs another look.

Each exchange has its own thread and database connection, so that a slow or dead one does not hold up the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import psycopg
from tenacity import wait_fixed

from pipeline.broker.backpressure import Backpressure
from pipeline.broker.client import Bus
from pipeline.broker.publisher import Publisher
from pipeline.core import events
from pipeline.core.errors import PipelineError, Unavailable
from pipeline.core.log import get_logger
from pipeline.core.retry import retry
from pipeline.core.runtime import now_us
from pipeline.core.settings import DatabaseSettings
from pipeline.core.stopping import Stopped
from pipeline.core.times import us_to_iso
from pipeline.database.connection import Connection, connect_when_ready
from pipeline.database.ledger import Ledger
from pipeline.database.session import Session
from producers.exchange_candles import ledger
from producers.exchange_candles.book import Book, Results
from producers.exchange_candles.exchange import Exchange
from producers.exchange_candles.intervals import Interval, common, merged, without
from producers.exchange_candles.letters import Letters
from producers.exchange_candles.looks import GRACE_US, Memory
from producers.exchange_candles.plan import Outcome, Plan
from producers.exchange_candles.rows import Values, floor_us
from producers.exchange_candles.walk import Walk
from schemas.records import CandleRow, CandlesMessage

POLL_S = 0.1
LOG_EVERY_S = 10.0
# After this many consecutive products without an answer the exchange is down; the others wait for the next pass.
DOWN_AFTER = 2
CATCH_UP = 3  # new candles that are worth another round without --follow


class Worker:
    """Loads the candles of one exchange. Runs in its own thread."""

    def __init__(
        self,
        exchange: Exchange,
        plan: Plan,
        bus: Bus,
        database: DatabaseSettings,
        letters: Letters,
        name: str,
        stop: threading.Event,
    ) -> None:
        """`name`: the Pulsar producers', unique per process."""
        self.exchange, self._plan, self._bus, self._stop = exchange, plan, bus, stop
        self._letters, self._name = letters, name
        self.venue = exchange.venue
        self.last_answer = time.monotonic()
        self.problems: list[str] = []  # of the last pass
        self._session = Session(lambda: connect_when_ready(database, name, stop))
        self._publishers: dict[str, Publisher] = {}
        self._books: dict[str, Book] = {}
        self._silent: set[str] = set()  # products without an answer in the last pass
        self._backpressure = Backpressure(stop)
        self._log = get_logger().bind(venue=self.venue)
        self._logged_at = 0.0

    def run_pass(self, products: Iterable[str]) -> Outcome:
        """Load all products once. Problems are in the outcome; returns early when stopped."""
        outcome = Outcome()
        down = 0
        try:
            if not self.exchange.loaded:
                self.exchange.load_markets()
            # Products without an answer last time come last, so that they do not block the others forever.
            for product_id in sorted(products, key=self._silent.__contains__):
                if not self.exchange.lists(product_id):
                    continue
                answers = self._load_product(product_id, outcome)
                (self._silent.discard if answers else self._silent.add)(product_id)
                down = 0 if answers else down + 1
                if down >= DOWN_AFTER:
                    raise Unavailable(f"no answers, also for {product_id}; the other products wait")
            if not down:
                self.last_answer = time.monotonic()
        except Stopped:
            pass
        except PipelineError as error:
            if not self._stop.is_set():
                outcome.problems.append(f"{self.venue}: {error}")
                self._log.error(events.EXCHANGE_DOWN, error=str(error), kind=type(error).__name__)
        self.problems = outcome.problems
        return outcome

    def run_for_ever(self, products: Any, poll_s: float) -> None:
        """Run passes until stopped, each a little after a multiple of `poll_s`; `products()` returns the current
        ones."""
        while not self._stop.is_set():
            self.run_pass(products())
            self._stop.wait(poll_s - time.time() % poll_s + 1.0 + GRACE_US / 1e6)

    def _load_product(self, product_id: str, outcome: Outcome) -> bool:
        """Load one product under its lock. Returns whether the exchange answers. Raises `Stopped`."""

        def attempt() -> None:
            conn = self._session.connection()
            turn = f"candles {self.venue} {product_id} {self._plan.granularity_s}"
            with Ledger(conn).turn(turn, self._stop) as mine:
                if mine:
                    self._load(conn, product_id, outcome)

        def lost(error: BaseException, seconds: float) -> None:
            self._log.warning(events.DATABASE_RETRY, error=str(error).strip(), retry_in_s=seconds)
            self.close()

        try:
            retry(attempt, self._stop, retry_on=psycopg.OperationalError, wait=wait_fixed(1.0), before_wait=lost)
        except Stopped:
            raise
        except PipelineError as error:
            if self._stop.is_set():
                return True
            outcome.problems.append(f"{self.venue} {product_id}: {error}")
            self._log.error(events.REQUEST_FAILED, product=product_id, error=str(error), kind=type(error).__name__)
            return not error.retryable
        except Exception as error:  # an unreadable state, or a bug of ours
            outcome.problems.append(f"{self.venue} {product_id}: {type(error).__name__}: {error}"[:500])
            self._log.exception(events.FAILED, product=product_id)
            self.close()  # in whatever state it is
        return True

    def _load(self, conn: Connection, product_id: str, outcome: Outcome) -> None:
        """Load a product as far as it can be now, and log what it brought, however it ends."""
        if not self._publish_quorum(conn, product_id, outcome):
            return
        book = self._books.setdefault(product_id, Book(Memory(self._plan.width_us, self._plan.settle_us)))
        rows: list[str] = []
        try:
            self._rounds(conn, product_id, book, outcome, rows)
        finally:
            outcome.log(self.venue, product_id)
            outcome.problems += [f"{self.venue} {product_id}: {text}" for text in (*book.aside.named(), *rows)]

    def _rounds(self, conn: Connection, product_id: str, book: Book, outcome: Outcome, rows: list[str]) -> None:
        """Back-fill, then catch up with candles closed meanwhile, until nothing is left to request."""
        plan, width = self._plan, self._plan.width_us
        ended, least = plan.start_us, 1
        while not self._stop.is_set():
            now_us = self.exchange.now_us()
            settled = floor_us(now_us - plan.settle_us - GRACE_US, width)
            end = floor_us(now_us - GRACE_US, width) if plan.follow else settled
            opened = ledger.open_spans(conn, self.venue, product_id, plan.granularity_s, plan.start_us, end)
            book.memory.forget(without(book.memory.spans, opened))
            book.aside.keep(opened)
            fresh = without(opened, book.memory.spans)
            due = common(opened, [(0, settled)])
            wanted = without(merged(*fresh, *due), book.aside.blocked())
            # What the last round did not settle, and the few candles closed since, can wait for the next pass.
            if sum(b - a for a, b in common(wanted, [(ended, end)])) < least:
                break
            ended, least = end, 1 if plan.follow else CATCH_UP * width
            published: list[Interval] = []
            for span in wanted:
                published += self._fetch(product_id, book, span, outcome, rows)
            if published and not self._wait_until_stored(conn, product_id, published, outcome):
                break

    def _publish_quorum(self, conn: Connection, product_id: str, outcome: Outcome) -> bool:
        """Publish a new quorum, because it applies to stored candles too, even if there is nothing to fetch."""

        def holds() -> bool:
            return ledger.quorum_holds(conn, product_id, self._plan.granularity_s, self._plan.quorum)

        if holds():
            return True
        self._publish(product_id, {}, self._plan.quorum.as_of_us)
        return self._wait_for(holds, lambda: 0, product_id, outcome)

    def _fetch(self, product_id: str, book: Book, span: Interval, outcome: Outcome, rows: list[str]) -> list[Interval]:
        """Fetch and publish an interval; returns the parts that are final now."""
        # Up to one call is a catch-up; more is a back-fill.
        kind = "backfill" if span[1] - span[0] > self.exchange.page_size * self._plan.width_us else "catch_up"

        def final(found: dict[int, Values], covered: Interval, at_us: int) -> None:
            self.last_answer = time.monotonic()
            self._publish(product_id, found, at_us, f"{product_id}-{kind}", covered)
            outcome.processed[product_id] += len(found)
            self._log_progress(product_id, kind, span, covered[1])

        walk = Walk(
            self.exchange,
            product_id,
            book,
            Results(
                final,
                lambda found, at_us: self._publish(product_id, found, at_us),
                lambda row: self._letters.row(self.venue, product_id, row),
            ),
            self._stop,
            patient=self._plan.follow,
        )
        try:
            walk.run(span)
        finally:
            outcome.calls += walk.calls
            outcome.candles += walk.candles
            rows += [text for text in walk.refused_rows() if text not in rows]
        self.last_answer = time.monotonic()
        return walk.final

    def _publish(
        self,
        product_id: str,
        found: dict[int, Values],
        at_us: int,
        key: str | None = None,
        covered: Interval | None = None,
    ) -> None:
        """Publish final candles with the interval they cover, or, without `covered`, candles that may still change."""
        if product_id not in self._publishers:
            self._publishers[product_id] = self._bus.publisher(
                "candles", self.venue, product_id, schema="candles", name=self._name, whole=True
            )
        publisher = self._publishers[product_id]
        self._backpressure.wait(publisher.topic)
        begin_us, end_us = covered or (None, None)
        message = CandlesMessage(
            venue=self.venue,
            product_id=product_id,
            asset_class=self.exchange.asset_class(product_id),
            origin="history",
            received_at_us=now_us(),
            as_of_us=at_us,
            granularity_s=self._plan.granularity_s,
            candles=[CandleRow(bucket, *values, covered is not None) for bucket, values in sorted(found.items())],
            state=key,
            covered_from_us=begin_us,
            covered_to_us=end_us,
            quorum=self._plan.quorum,
        )
        publisher.send(message, key=product_id, wait=True)

    def _wait_until_stored(self, conn: Connection, product_id: str, spans: list[Interval], outcome: Outcome) -> bool:
        key = (self.venue, product_id, self._plan.granularity_s)
        return self._wait_for(
            lambda: ledger.is_stored(conn, *key, spans),
            lambda: sum(b - a for a, b in ledger.open_spans(conn, *key, spans[0][0], spans[-1][1])),
            product_id,
            outcome,
        )

    def _wait_for(
        self, done: Callable[[], bool], open_us: Callable[[], int], product_id: str, outcome: Outcome
    ) -> bool:
        """Wait for the writer while it makes progress. Returns False on timeout or when the process stops."""
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
                    f"{self.venue} {product_id}: published but not stored; is `python -m consumers.candles` running?"
                )
                return False
            if waited > LOG_EVERY_S and self._may_log():
                self._log.warning(events.WAITING, on="the candles writer", product=product_id, for_s=round(waited))
            self._stop.wait(POLL_S)
        return False

    def _log_progress(self, product_id: str, kind: str, span: Interval, at_us: int) -> None:
        if self._may_log():
            share = round(min(1.0, (at_us - span[0]) / (span[1] - span[0])), 3)
            state, up_to = f"{product_id}-{kind}", us_to_iso(at_us)
            self._log.info(events.LOAD_PROGRESS, product=product_id, state=state, up_to=up_to, share=share)

    def _may_log(self) -> bool:
        if time.monotonic() - self._logged_at < LOG_EVERY_S:
            return False
        self._logged_at = time.monotonic()
        return True

    def close(self) -> None:
        self._session.close()
