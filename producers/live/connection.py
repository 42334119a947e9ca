"""The life of a live connection, the same for every venue.

connect -> subscribe -> acknowledgement per product -> data, watched by two timeouts: frames of any kind, and data per
product. Reconnects forever with capped exponential backoff. The venue-specific part is a `Venue`. No malformed frame
ends the connection, and no single product ends it for the others.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

from pipeline.core import events, metrics
from pipeline.core.errors import Unavailable
from pipeline.core.log import get_logger
from pipeline.core.log_limiter import LogLimiter
from pipeline.core.runtime import now_us
from pipeline.core.stopping import Stopped
from producers.live.backoff import Backoff
from producers.live.heads import Head
from producers.live.live_publisher import LivePublisher
from producers.live.subscriptions import Subscriptions
from producers.live.transport import Transport, connect
from producers.live.watch import Watch
from schemas.records import TradeRow
from venues.events import (
    Acknowledged,
    CandleFrame,
    FramesLost,
    Resubscribe,
    SubscriptionRefused,
    TickerFrame,
    TradeFrame,
    Unreadable,
    VenueEvent,
    VenueNotice,
    VenueTime,
    unreadable,
)
from venues.venue import Venue
from venues.venue_clock import VenueClock

POLL_EVERY_S = 0.25
LOG_RATE_EVERY_S = 60.0
LOG_UNREQUESTED_EVERY_S = 60.0


class Connection:
    """Runs one venue's stream in the calling thread. `/health` reads `status`, `last_frame`, `clocks` and
    `subscriptions` from another."""

    def __init__(
        self,
        venue: Venue,
        publisher: LivePublisher,
        heads: dict[str, Head],
        clock: VenueClock,
        stop: threading.Event,
    ) -> None:
        self.venue, self._publisher, self._heads = venue, publisher, heads
        self.clock, self._stop = clock, stop
        self._log = get_logger().bind(venue=venue.name)
        now = time.monotonic()
        self.started = now
        self.last_frame: float | None = None
        self.last_data: float | None = None
        self.status = "starting"
        self._backoff = Backoff()
        self.subscriptions = Subscriptions(venue, self._set_status, self._log)
        self.watch = Watch(venue, self.subscriptions, heads)
        self.clocks = self.watch.clocks
        self._counted: Counter[str] = Counter()
        self._counted_since = now
        self._log_limiter, self._unrequested_limiter = LogLimiter(), LogLimiter(LOG_UNREQUESTED_EVERY_S)
        self._symbol_counts = {product: metrics.MESSAGES_BY_SYMBOL.labels(product) for product in venue.products}
        self._trade_metrics = {product: _TradeMetrics(venue.name, product) for product in venue.products}
        self._clock_metric = metrics.CLOCK_OFFSET.labels(venue.name)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Connect, receive and reconnect until stopped."""
        while not self._stop.is_set():
            opened: float | None = None
            try:
                self._set_status("connecting", url=self.venue.url)
                socket = connect(self.venue.url, self._stop)
                opened = time.monotonic()
                try:
                    self._session(socket)
                finally:
                    metrics.CONNECTION_UP.labels(self.venue.name).set(0)
                    socket.close()
            except Stopped:
                break
            except Unavailable as error:
                self._on_disconnect(str(error), opened)
        self._set_status("closed", reason="stopped")

    def _on_disconnect(self, reason: str, opened: float | None) -> None:
        """Handle a failed or lost connection: note since when data is missed, then wait for the backoff delay."""
        metrics.CONNECTION_ERRORS.inc()
        if opened is not None:
            self._publisher.missed()
        if opened is not None and self.last_data is not None:
            self._backoff.lived(self.last_data - opened)
        missing = any(clock.last_id for clock in self.clocks.values())
        delay = self._backoff.next(gaps_open=missing)
        self._set_status("closed", level="warning", reason=reason, retry_in_s=round(delay, 2))
        self._stop.wait(delay)

    def _session(self, socket: Transport) -> None:
        """Receive frames until the program stops. Raises `Unavailable` when the connection fails."""
        self._set_status("open")
        now = alive = time.monotonic()
        for text in self.venue.opened():
            socket.send(text)
        self.watch.opened(now)
        self.subscriptions.opened(now)
        next_poll = now
        while not self._stop.is_set():
            frame = socket.receive()
            now = time.monotonic()
            if frame is not None:
                alive = self.last_frame = now
                self._receive(frame, now)
            elif now - alive > self.venue.frame_timeout_s:
                self._set_status("silent", level="warning", seconds=round(now - alive, 1))
                raise Unavailable(f"no frame for {now - alive:.1f} s")
            if now >= next_poll:
                next_poll = now + POLL_EVERY_S
                self._poll(socket, now)

    def _set_status(self, status: str, level: str = "info", **details: Any) -> None:
        self.status = status
        getattr(self._log, level)(events.CONNECTION_STATUS, status=status, **details)

    # -- frames ------------------------------------------------------------------------------------------------------

    def _receive(self, frame: bytes, now: float) -> None:
        """Parse and handle a frame. Never raises: what fails, the frame or one of its events, becomes a dead letter."""
        received_us = now_us()
        try:
            parsed = self.venue.read(frame)
        except Exception as error:
            parsed = [unreadable(error, frame)]
        for event in parsed:
            try:
                self._handle(event, received_us, now)
            except Exception as error:
                self._publisher.unreadable(unreadable(error, frame), self.venue.url)
        metrics.MESSAGES.inc()
        metrics.LAST_MESSAGE.set(received_us / 1_000_000)
        metrics.PROCESSING.observe(time.monotonic() - now)

    def _handle(self, event: VenueEvent, received_us: int, now: float) -> None:
        match event:
            case TradeFrame():
                if self._accepts(event.product_id):
                    self._trades(event, received_us, now)
            case TickerFrame():
                if self._accepts(event.product_id):
                    self._record_data(event.product_id, "tickers", now)
                    if event.timestamp_us is not None and not event.snapshot:
                        self.clock.seen(event.timestamp_us, received_us)
                    self._publisher.ticker(event, received_us)
            case CandleFrame():
                if self._accepts(event.product_id):
                    self._record_data(event.product_id, "candles", now)
                    self._publisher.candles(event, received_us)
            case VenueTime():
                self.clock.seen(event.at_us, received_us)
            case Acknowledged():
                if not self.subscriptions.acknowledged(event) and event.product_id is not None:
                    self._report_unrequested(event.product_id)
            case SubscriptionRefused():
                self.subscriptions.refused(event, now)
            case Resubscribe():
                if self.subscriptions.renew(event, now):
                    about = {"product": event.product_id, "channel": event.channel, "reason": event.reason}
                    self._log.warning(events.ASKED_ANEW, **about)
            case VenueNotice():
                self._notice(event, now)
            case FramesLost():
                metrics.SEQUENCE_MISSED.labels(self.venue.name).inc(event.count)
                if self._log_limiter.allows("frames lost"):
                    self._log.warning(events.SEQUENCE_GAP, frames=event.count)
            case Unreadable():
                self._publisher.unreadable(event, self.venue.url)

    def _notice(self, notice: VenueNotice, now: float) -> None:
        if notice.kind == "error":
            self.subscriptions.venue_error(notice.text)
        elif notice.kind == "key_refused":  # the venue refused every subscription with it
            self.subscriptions.opened(now)
        if self._log_limiter.allows(notice.text):
            log = self._log.info if notice.kind == "status" else self._log.warning
            log(events.VENUE_NOTICE, kind=notice.kind, text=notice.text)

    def _accepts(self, product: str) -> bool:
        """Return whether the product was requested; reports it if not."""
        if product in self.clocks:
            return True
        self._report_unrequested(product)
        return False

    def _report_unrequested(self, product: str) -> None:
        """Report data of a product that was not requested. It is not published: REST may count other trades under that
        name."""
        metrics.FRAMES_UNASKED.labels(self.venue.name).inc()
        requested = self.subscriptions.unrequested(product)
        if self._unrequested_limiter.allows(product[:100]):
            text = f"{product[:100]} was not subscribed"
            if requested is not None:
                text = f"the venue sends {requested} as {product}; configure {product} instead"
            self._log.warning(events.UNASKED, product=product[:100], text=text)

    def _trades(self, frame: TradeFrame, received_us: int, now: float) -> None:
        product = frame.product_id
        clock = self.clocks[product]
        if not frame.rows:
            return
        self._record_data(product, "trades", now)
        self._publisher.trades(frame, received_us)
        rows = frame.rows
        doubted = self._heads[product].streamed([row.trade_id for row in rows], received_us)
        if doubted:
            self.watch.doubt(product, doubted)
            rows = [row for row in rows if row.trade_id not in doubted]
            if not rows:
                return
        newest = max(rows, key=_trade_id) if len(rows) > 1 else rows[0]
        if frame.snapshot:
            if len(rows) > 1:
                oldest = min(rows, key=_trade_id)
                clock.learn(max(0.0, newest.timestamp_us - oldest.timestamp_us) / 1e6 / (len(rows) - 1))
        else:
            self.clock.seen(newest.timestamp_us, received_us)
        if clock.data(newest.trade_id, now, snapshot=frame.snapshot):
            self.watch.recovered(product)
        self._counted[product] += len(rows)
        counts = self._trade_metrics[product]
        counts.received[frame.snapshot].inc(len(frame.rows))
        counts.age_venue.set(newest.timestamp_us / 1_000_000)
        counts.age_ours.set(received_us / 1_000_000)

    def _record_data(self, product: str, space: str, now: float) -> None:
        self.last_data = self.watch.data_at[product] = now
        self._symbol_counts[product].inc()
        self.subscriptions.data(self.venue.spaces[space], product)

    # -- periodic work -----------------------------------------------------------------------------------------------

    def _poll(self, socket: Transport, now: float) -> None:
        metrics.PUBLISH_PENDING.labels(self.venue.name).set(self._publisher.pending)
        for text in self.subscriptions.messages(POLL_EVERY_S, now):
            socket.send(text)
        self.subscriptions.poll(now)
        self.watch.poll(now)
        self._check_clock()
        if now - self._counted_since >= LOG_RATE_EVERY_S:
            seconds = now - self._counted_since
            rates = {product: round(self._counted[product] / seconds, 2) for product in self.venue.products}
            self._log.info(events.TRADE_RATE, per_second=rates, pending=self._publisher.pending)
            self._counted.clear()
            self._counted_since = now

    def _check_clock(self) -> None:
        offset_us = self.clock.offset_us
        if offset_us is None:
            return
        self._clock_metric.set(offset_us / 1_000_000)
        if self.clock.changed():
            seconds = round(offset_us / 1_000_000, 1)
            side = "ahead of" if seconds > 0 else "behind"
            text = f"the clock of {self.venue.name} is {abs(seconds)} s {side} ours"
            self._log.warning(events.CLOCK_OFFSET, offset_s=seconds, text=text)


class _TradeMetrics:
    """The metrics of one product, looked up once. Measured: a lookup by labels costs 5 us per frame."""

    def __init__(self, venue: str, product: str) -> None:
        self.received = {
            False: metrics.TRADES_RECEIVED.labels(venue, product, "live"),
            True: metrics.TRADES_RECEIVED.labels(venue, product, "snapshot"),
        }
        self.age_venue = metrics.TRADE_AGE_VENUE.labels(venue, product)
        self.age_ours = metrics.TRADE_AGE_OURS.labels(venue, product)


def _trade_id(row: TradeRow) -> int:
    return row.trade_id
