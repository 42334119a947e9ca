"""The whole life of a live connection, the same for every venue.

connect -> subscribe -> acknowledgement per product -> data, watched by two clocks: frames of any kind, and data per
product. It ends by itself never: whatever happens, it connects again, later and later up to a cap. A venue adds what
`Venue` says, which is how its texts look.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from typing import Any

from pipeline import events, metrics
from pipeline.errors import PipelineError, Unavailable
from pipeline.log import get_logger
from pipeline.process import now_us
from producers.backoff import Backoff
from producers.clocks import Due, ProductClock
from producers.frames import (
    Acknowledged,
    CandleFrame,
    FramesLost,
    SubscriptionRefused,
    TickerFrame,
    TradeFrame,
    Unreadable,
    VenueNotice,
)
from producers.outlet import Outlet
from producers.socket import Socket, Stopped
from producers.subscriptions import Subscriptions
from producers.venue import Venue

LOOK_EVERY_S = 0.25
SAY_RATE_EVERY_S = 60.0


class Connection:
    """Runs one venue. What `/health` says of it is in `status`, `last_frame`, `clocks`, `refused`."""

    def __init__(self, venue: Venue, outlet: Outlet, stop: threading.Event) -> None:
        self.venue, self._outlet, self._stop = venue, outlet, stop
        self._log = get_logger().bind(venue=venue.name)
        now = time.monotonic()
        self.started = now
        self.last_frame: float | None = None
        self.status = "starting"
        self.clocks = {product: ProductClock(venue.quiet_s, now) for product in venue.products}
        self._last_data: float | None = None
        self._answers: queue.Queue[tuple[str, int | None]] = queue.Queue()
        self._backoff = Backoff()
        self._subscriptions = Subscriptions(venue, self._say, self._log)
        # 0: since the last stored ticker; this process cannot know when the one before it ended.
        self._missed_since = dict.fromkeys(venue.products, 0)
        self._last_frame_us = 0
        self._counted: Counter[str] = Counter()
        self._counted_since = now
        self._symbol_counts = {product: metrics.MESSAGES_BY_SYMBOL.labels(product) for product in venue.products}

    @property
    def refused(self) -> dict[str, str]:
        """Products that the venue does not let us have, and its reason."""
        return self._subscriptions.refused

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until stopped."""
        while not self._stop.is_set():
            opened: float | None = None
            try:
                self._say("connecting", url=self.venue.url)
                socket = Socket(self.venue.url, self._stop)
                opened = time.monotonic()
                try:
                    self._session(socket)
                finally:
                    metrics.CONNECTION_UP.labels(self.venue.name).set(0)
                    socket.close()
            except Stopped:
                break
            except Unavailable as error:
                self._ended(str(error), opened)
        self._say("closed", reason="stopped")

    def _ended(self, reason: str, opened: float | None) -> None:
        """The connection is gone: note since when data is missed, and wait."""
        metrics.CONNECTION_ERRORS.inc()
        if opened is not None and self._last_frame_us:
            for product in self.venue.products:
                self._missed_since.setdefault(product, self._last_frame_us)
        if opened is not None and self._last_data is not None:
            self._backoff.lived(self._last_data - opened)
        missing = any(clock.last_id for clock in self.clocks.values())
        delay = self._backoff.next(gaps_open=missing)
        self._say("closed", level="warning", reason=reason, retry_in_s=round(delay, 2))
        self._stop.wait(delay)

    def _session(self, socket: Socket) -> None:
        """One connection, until it fails (`Unavailable`) or the program stops."""
        self._say("open")
        now = alive = time.monotonic()
        self.venue.opened()
        for clock in self.clocks.values():
            clock.opened(now)
        self._subscriptions.opened(now)
        next_look = now
        while not self._stop.is_set():
            frame = socket.receive()
            now = time.monotonic()
            if frame is not None:
                alive = self.last_frame = now
                self._take(frame, now)
            elif now - alive > self.venue.frame_timeout_s:
                self._say("silent", level="warning", seconds=round(now - alive, 1))
                raise Unavailable(f"no frame for {now - alive:.1f} s")
            if now >= next_look:
                next_look = now + LOOK_EVERY_S
                self._look(socket, now)

    def _say(self, status: str, level: str = "info", **more: Any) -> None:
        self.status = status
        getattr(self._log, level)(events.CONNECTION_STATUS, status=status, **more)

    # -- frames ------------------------------------------------------------------------------------------------------

    def _take(self, frame: bytes, now: float) -> None:
        self._last_frame_us = received_us = now_us()
        for said in self.venue.read(frame):
            match said:
                case TradeFrame():
                    self._trades(said, received_us, now)
                case TickerFrame():
                    self._count(said.product_id, now)
                    missed = self._missed_since.pop(said.product_id, None)
                    self._outlet.ticker(said, received_us, missed)
                case CandleFrame():
                    self._count(said.product_id, now)
                    self._outlet.candles(said, received_us)
                case Acknowledged():
                    self._subscriptions.acknowledged(said)
                case SubscriptionRefused():
                    self._subscriptions.was_refused(said)
                case VenueNotice():
                    log = self._log.info if said.kind == "status" else self._log.warning
                    log(events.VENUE_NOTICE, kind=said.kind, text=said.text)
                case FramesLost():
                    metrics.SEQUENCE_MISSED.labels(self.venue.name).inc(said.count)
                    self._log.warning(events.SEQUENCE_GAP, frames=said.count)
                case Unreadable():
                    self._outlet.unreadable(said, self.venue.url)
        metrics.MESSAGES.inc()
        metrics.LAST_MESSAGE.set(received_us / 1_000_000)
        metrics.PROCESSING.observe(time.monotonic() - now)

    def _trades(self, frame: TradeFrame, received_us: int, now: float) -> None:
        product = frame.product_id
        clock = self.clocks.get(product)
        if clock is None or not frame.rows:
            return
        self._outlet.trades(frame, received_us)
        newest = max(frame.rows, key=_trade_id)
        if frame.snapshot and len(frame.rows) > 1:
            oldest = min(frame.rows, key=_trade_id)
            clock.learn((newest["timestamp_us"] - oldest["timestamp_us"]) / 1e6 / (len(frame.rows) - 1))
        if clock.data(newest["trade_id"], now, snapshot=frame.snapshot):
            metrics.PRODUCT_STALE.labels(self.venue.name, product).set(0)
            self._log.info(events.PRODUCT_RECOVERED, product=product)
        self._count(product, now)
        self._counted[product] += len(frame.rows)
        origin = "snapshot" if frame.snapshot else "live"
        metrics.TRADES_RECEIVED.labels(self.venue.name, product, origin).inc(len(frame.rows))
        metrics.TRADE_AGE_VENUE.labels(self.venue.name, product).set(newest["timestamp_us"] / 1_000_000)
        metrics.TRADE_AGE_OURS.labels(self.venue.name, product).set(received_us / 1_000_000)

    def _count(self, product: str, now: float) -> None:
        self._last_data = now
        counter = self._symbol_counts.get(product)
        if counter is not None:
            counter.inc()

    # -- what is due -------------------------------------------------------------------------------------------------

    def _look(self, socket: Socket, now: float) -> None:
        metrics.PUBLISH_PENDING.labels(self.venue.name).set(self._outlet.pending)
        for text in self._subscriptions.texts(LOOK_EVERY_S):
            socket.send(text)
        self._subscriptions.look(now)
        if self.venue.watches_trades:
            self._take_answers(now)
            for product, clock in self.clocks.items():
                if product not in self.refused:
                    self._look_at(product, clock, now)
        if now - self._counted_since >= SAY_RATE_EVERY_S:
            seconds = now - self._counted_since
            rates = {product: round(self._counted[product] / seconds, 2) for product in self.venue.products}
            self._log.info(events.TRADE_RATE, per_second=rates, pending=self._outlet.pending)
            self._counted.clear()
            self._counted_since = now

    def _look_at(self, product: str, clock: ProductClock, now: float) -> None:
        due = clock.due(now)
        if due is Due.NOTHING:
            return
        if due is Due.ASK:
            name = f"newest {product}"
            threading.Thread(target=self._ask, args=(product,), name=name, daemon=True).start()
            return
        metrics.PRODUCT_STALE.labels(self.venue.name, product).set(1)
        self._log.warning(events.PRODUCT_STALE, product=product, last_id=clock.last_id, now_do=due.value)
        if due is Due.RECONNECT:
            raise Unavailable(f"{product} is silent though the market moved")
        self._subscriptions.again(product, now)

    def _ask(self, product: str) -> None:
        """In a thread of its own: the reader of the socket does not wait for REST."""
        newest: int | None = None
        try:
            newest = self.venue.newest_trade(product)
        except PipelineError as error:
            self._log.warning(events.REQUEST_FAILED, product=product, error=str(error))
        except Stopped:
            return
        self._answers.put((product, newest))

    def _take_answers(self, now: float) -> None:
        while True:
            try:
                product, newest = self._answers.get_nowait()
            except queue.Empty:
                return
            clock = self.clocks[product]
            if clock.answered(newest, now):
                metrics.PRODUCT_STALE.labels(self.venue.name, product).set(0)
                self._log.info(events.PRODUCT_QUIET, product=product, last_id=clock.last_id)


def _trade_id(row: dict[str, Any]) -> int:
    return int(row["trade_id"])
