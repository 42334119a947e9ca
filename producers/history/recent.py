"""Load the trades that REST still shows, for venues that are proven by time windows (`--historical`).

There is no cursor: an answer holds the trades of the last minute, hour or day. They are stored but not called complete:
an answer may have been truncated, and completeness counts only from the start of the live stream.
"""

from __future__ import annotations

import time

import click
import psycopg

from pipeline.broker.backpressure import Backpressure
from pipeline.broker.bootstrap import broker_when_ready
from pipeline.broker.client import Bus
from pipeline.core import events
from pipeline.core.errors import PipelineError, Unavailable, WrongUse
from pipeline.core.log import get_logger
from pipeline.core.runtime import Stop, now_us
from pipeline.core.settings import DatabaseSettings, PulsarSettings, load
from pipeline.core.stopping import Stopped
from pipeline.core.times import us_to_iso
from pipeline.database import windows
from pipeline.database.connection import connect, connect_when_ready
from pipeline.database.ledger import Ledger
from pipeline.database.migrate import database_when_ready
from pipeline.database.session import Session
from producers.history.request import Request
from producers.history.trades import LEDGER_PATIENCE_S, POLL_S, flush, retry_on_database_errors
from schemas.records import TradeRow, TradesMessage
from venues.bad_rows import BadRowLetters
from venues.registry import adapter_of
from venues.trade_windows import SECOND_US, WindowSource

MESSAGE_ROWS = 1000  # as many as a page of the other venues holds
# "The last day" was counted when the program started, so allow this much more than the longest reach.
MARGIN_S = 60


def reach_of(source: WindowSource, request: Request) -> int:
    """Return how far back to ask, in seconds. Raises `WrongUse` if REST does not reach back to the request's start."""
    age_s = (now_us() - request.from_us) / SECOND_US
    for reach_s in source.reaches_s:
        if age_s <= reach_s + (MARGIN_S if reach_s == source.reaches_s[-1] else 0):
            return reach_s
    title, hours = adapter_of(source.venue).title, source.reaches_s[-1] / 3600
    raise WrongUse(f"{title} shows the trades of the last {hours:g} hours only; give a --from within them.")


def run_recent(source: WindowSource, request: Request, stop: Stop) -> int:
    """Load product by product. Returns the exit code: 1 if something that REST shows could not be stored."""
    reach_s = reach_of(source, request)
    database, name = load(DatabaseSettings), f"{source.venue}-history"
    bus = None
    if request.dry_run:
        session = Session(lambda: connect(database, name, read_only=True))
    else:
        database_when_ready(database, stop)
        session = Session(lambda: connect_when_ready(database, name, stop))
    try:
        if not request.dry_run:
            settings = load(PulsarSettings)
            broker_when_ready(settings, stop)
            bus = Bus(settings, stop)
        loader = _Load(source, request, reach_s, stop, bus, session)
        return max([loader.load(product) for product in request.products])
    except Stopped:
        return 1
    finally:
        if bus is not None:
            bus.close()
        session.close()


class _Load:
    """One run of the command. Without a `bus` (`--dry-run`) it only prints what would be loaded."""

    def __init__(
        self, source: WindowSource, request: Request, reach_s: int, stop: Stop, bus: Bus | None, session: Session
    ) -> None:
        self._source, self._request, self._reach_s, self._stop = source, request, reach_s, stop
        self._bus, self._session = bus, session
        self._log = get_logger().bind(venue=source.venue)

    def load(self, product: str) -> int:
        """Load one product; its errors do not affect the others. Returns 0 if all that REST shows is stored."""
        try:
            return retry_on_database_errors(lambda: self._in_turn(product), self._session, self._stop)
        except PipelineError as error:
            if self._stop.is_set():
                raise Stopped from None
            self._log.error(events.LOAD_DONE, product=product, error=str(error), kind=type(error).__name__)
            click.echo(f"{product}: {error}", err=True)
            return 1

    def _in_turn(self, product: str) -> int:
        turn = f"{self._source.venue} {product}"
        ledger = Ledger(self._session.connection())
        with ledger.turn(turn, self._stop, wait=self._request.wait_for_turn) as mine:
            if mine:
                return self._product(product)
            if self._stop.is_set():
                raise Stopped
            self._log.warning(events.WAITING, on=f"turn of {turn}", text="skipped: loaded by another process")
            return 1

    def _product(self, product: str) -> int:
        page = self._source.recent(product, self._reach_s).page
        shown = [row for row in page.rows if self._request.from_us <= row.timestamp_us < self._request.to_us]
        unknown = self._unknown_ids(product, [row.trade_id for row in shown])
        missing = [row for row in shown if row.trade_id in unknown]
        since = us_to_iso(min(row.timestamp_us for row in shown)) if shown else "no time"
        if self._bus is None:
            click.echo(
                f"{product}: REST shows {len(shown):,} trades from {since} on, {len(missing):,} are missing;"
                " nothing was loaded"
            )
            return 0
        BadRowLetters(self._bus, f"{self._source.venue}-history").send(self._source.venue, product, page.bad)
        if missing:
            self._publish(self._bus, product, missing)
        bad = len(page.bad) + page.blurred
        self._log.info(events.LOAD_DONE, product=product, trades=len(shown), loaded=len(missing), since=since, bad=bad)
        if bad:
            click.echo(f"{product}: {bad} rows of the answer cannot be stored; see the dead letters", err=True)
        return 1 if bad else 0

    def _publish(self, bus: Bus, product: str, rows: list[TradeRow]) -> None:
        """Publish, and wait until the rows are stored unless the request says otherwise. Raises `Unavailable`."""
        venue = self._source.venue
        publisher = bus.publisher("trades", venue, product, schema="trades", name=bus.own_name(f"{venue}-history"))
        asset_class = adapter_of(venue).asset_class(product)
        backpressure = Backpressure(self._stop)
        for first in range(0, len(rows), MESSAGE_ROWS):
            backpressure.wait(publisher.topic)
            part = rows[first : first + MESSAGE_ROWS]
            message = TradesMessage(venue, product, asset_class, "history", now_us(), part)
            if not publisher.send(message, key=product, wait=True):
                raise Unavailable(f"the broker does not accept messages for {publisher.topic}")
        flush(publisher, product, self._stop)
        if self._request.wait_for_ledger:
            self._wait_for_ledger(product, [row.trade_id for row in rows])

    def _wait_for_ledger(self, product: str, ids: list[int]) -> None:
        left, until = len(ids), time.monotonic() + LEDGER_PATIENCE_S
        while unknown := self._unknown_ids(product, ids):
            if len(unknown) < left:
                left, until = len(unknown), time.monotonic() + LEDGER_PATIENCE_S
            if time.monotonic() > until:
                raise Unavailable(
                    f"{left} trades of {product} were published but are not stored after {LEDGER_PATIENCE_S:.0f} s;"
                    " is `python -m consumers.trades` running?"
                )
            if self._stop.wait(POLL_S):
                raise Stopped

    def _unknown_ids(self, product: str, ids: list[int]) -> set[int]:
        try:
            return windows.unknown_ids(self._session.connection(), self._source.venue, product, ids)
        except psycopg.errors.UndefinedTable:
            if self._bus is not None:
                raise
            return set(ids)  # a new database, and a dry run, which creates no tables
