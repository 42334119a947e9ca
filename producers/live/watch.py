"""Watch the trades of all products: on silence, compare with REST, then resubscribe or reconnect.

Runs in the connection's thread, which reads the socket; each REST request runs in its own thread.
"""

from __future__ import annotations

import queue
import threading
import time

from pipeline.core import events, metrics
from pipeline.core.errors import PipelineError, Unavailable
from pipeline.core.log import get_logger
from pipeline.core.log_limiter import LogLimiter
from pipeline.core.runtime import now_us
from pipeline.core.stopping import Stopped
from producers.live.heads import Head
from producers.live.staleness import Due, ProductClock
from producers.live.subscriptions import Subscriptions
from venues.venue import Venue

# A silent product is compared with REST this often, or less often: at most a quarter of the venue's REST rate is used.
CHECK_EVERY_S, SHARE_OF_REST = 40.0, 0.25
# A product counts as alive for this long after its last data.
ALIVE_S = 60.0
# A reconnect because of one silent product interrupts the others: allowed after this time, then after twice that, ...
RECONNECT_FOR_ONE_S, RECONNECT_FOR_ONE_CAP_S = 1800.0, 86_400.0


class Watch:
    """Checks a venue's products for staleness. Used by the connection's thread."""

    def __init__(self, venue: Venue, subscriptions: Subscriptions, heads: dict[str, Head]) -> None:
        self._venue, self._subscriptions, self._heads = venue, subscriptions, heads
        self._log = get_logger().bind(venue=venue.name)
        longest_s = max(CHECK_EVERY_S, len(venue.products) / (SHARE_OF_REST * venue.rest_per_s))
        now = time.monotonic()
        self.clocks = {product: ProductClock(venue.quiet_s, now, longest_s) for product in venue.products}
        self.data_at: dict[str, float] = {}  # by product: its last data of any kind
        self.rest_says: dict[str, str] = {}  # by product: why REST could not give its newest trade
        self._answers: queue.Queue[tuple[str, int | None, str | None]] = queue.Queue()
        self._reconnect_for: dict[str, tuple[float, float]] = {}  # by product: earliest time, and the wait after it
        self._channel = venue.spaces.get("trades", "")
        self._log_limiter = LogLimiter()

    def opened(self, now: float) -> None:
        for clock in self.clocks.values():
            clock.opened(now)

    def poll(self, now: float) -> None:
        """Do the periodic checks. Raises `Unavailable` if only a new connection can help."""
        if not self._venue.watches_trades:
            return
        self._handle_answers(now)
        for product, clock in self.clocks.items():
            # Nothing to compare yet for a product that is neither acknowledged nor was ever streamed.
            if clock.last_id or not self._subscriptions.is_pending(self._channel, product):
                self._check(product, clock, now)
            if self._heads[product].doubtful(now_us()) and clock.ask_now():
                self._start_request(product)

    def recovered(self, product: str) -> None:
        """Report that a stale product has data again."""
        metrics.PRODUCT_STALE.labels(self._venue.name, product).set(0)
        self._reconnect_for.pop(product, None)
        self._log.info(events.PRODUCT_RECOVERED, product=product)

    def doubt(self, product: str, ids: list[int]) -> None:
        """Handle trades with doubted ids: request the newest id by REST."""
        metrics.IDS_DOUBTED.labels(self._venue.name, product).inc(len(ids))
        if self._log_limiter.allows(f"doubted {product}"):
            self._log.warning(events.ID_DOUBTED, product=product, ids=ids[:3], newest=self._heads[product].newest_id)
            if self._venue.watches_trades and self.clocks[product].ask_now():
                self._start_request(product)

    def _check(self, product: str, clock: ProductClock, now: float) -> None:
        due = clock.due(now)
        if clock.stale and due is not Due.ASK:
            metrics.PRODUCT_STALE.labels(self._venue.name, product).set(1)
        if due is Due.NOTHING:
            return
        if due is Due.ASK:
            self._start_request(product)
            return
        if due is Due.RECONNECT and not self._may_reconnect_for(product, now):
            due = Due.RESUBSCRIBE
        self._log.warning(events.PRODUCT_STALE, product=product, last_id=clock.last_id, now_do=due.value)
        if due is Due.RECONNECT:
            raise Unavailable(f"{product} is silent though the market moved")
        if not self._subscriptions.is_pending(self._channel, product):
            self._subscriptions.resubscribe(self._channel, product)

    def _may_reconnect_for(self, product: str, now: float) -> bool:
        """Whether one silent product justifies a reconnect: at once if no other product has data, otherwise rarely."""
        others = (at for of, at in self.data_at.items() if of != product)
        if not any(now - at < ALIVE_S for at in others):
            return True
        at, pause = self._reconnect_for.setdefault(product, (now + RECONNECT_FOR_ONE_S, 2 * RECONNECT_FOR_ONE_S))
        if now < at:
            return False
        self._reconnect_for[product] = (now + pause, min(RECONNECT_FOR_ONE_CAP_S, 2 * pause))
        return True

    def _start_request(self, product: str) -> None:
        threading.Thread(target=self._request_newest, args=(product,), name=f"newest {product}", daemon=True).start()

    def _request_newest(self, product: str) -> None:
        """Request the newest id by REST. Runs in its own thread, so that reading the socket never waits. Never
        raises."""
        newest: int | None = None
        why: str | None = None
        try:
            newest = self._venue.newest_trade(product)
        except Stopped:
            return
        except Exception as error:
            why = str(error) if isinstance(error, PipelineError) else f"{type(error).__name__}: {error}"
            self._log.warning(events.REQUEST_FAILED, product=product, error=why)
        self._answers.put((product, newest, why))

    def _handle_answers(self, now: float) -> None:
        while True:
            try:
                product, newest, why = self._answers.get_nowait()
            except queue.Empty:
                return
            clock = self.clocks[product]
            if newest is not None and not self._heads[product].asked(newest, now_us()):
                newest, why = None, f"REST gives {newest} as the newest trade; waiting for confirmation"
            clock.last_id = min(clock.last_id, self._heads[product].newest_id or clock.last_id)
            self.rest_says.pop(product, None)
            if why is not None:
                self.rest_says[product] = why[:500]
            if clock.answered(newest, now):
                metrics.PRODUCT_STALE.labels(self._venue.name, product).set(0)
                self._log.info(events.PRODUCT_QUIET, product=product, last_id=clock.last_id)
