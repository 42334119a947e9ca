"""Publish events as messages. Nothing here blocks, because the thread that reads the socket calls it.

Messages that do not fit into the broker client's memory are dropped, counted and logged. Dropped trades show as a gap
in the ledger and are repaired, even the first ones of a stream, because the heads (`producers/live/heads.py`) know
their ids.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from msgspec import Struct, structs

from pipeline.broker.client import Bus
from pipeline.broker.publisher import Publisher
from pipeline.broker.topics import full_name
from pipeline.core import events, metrics
from pipeline.core.errors import PipelineError
from pipeline.core.log import get_logger
from pipeline.core.log_limiter import LogLimiter
from pipeline.core.products import AssetClass, Origin
from pipeline.core.runtime import now_us
from schemas.records import CandlesMessage, TickerMessage, TradesMessage
from venues.events import CandleFrame, TickerFrame, TradeFrame, Unreadable

SCHEMAS = {"trades": "trades", "tickers": "ticker", "candles": "candles"}
MAX_LETTER_BYTES, MAX_LETTER_DETAIL = 1 << 20, 2000
# A broken format would otherwise copy the whole stream into dead letters.
MAX_DEAD_LETTERS_PER_S = 50.0


class LivePublisher:
    """The publishers of one live venue, opened independently of each other. Producers are named `<venue>-live`."""

    def __init__(
        self,
        bus: Bus,
        venue: str,
        program: str,
        products: Iterable[str],
        namespaces: Iterable[str],
        asset_class: Callable[[str], AssetClass],
    ) -> None:
        self._venue, self._program, self._asset_class = venue, program, asset_class
        self.publishers = {
            (space, product): bus.publisher(
                space, venue, product, schema=SCHEMAS[space], name=f"{venue}-live", lazy=True
            )
            for product in products
            for space in namespaces
        }
        dead_letters = full_name(bus.settings.tenant, "dead-letters", program)
        # A unique name: other processes of this venue, with other products, share the topic of dead letters.
        self.dead_letters = bus.publisher_to(dead_letters, "dead_letter", bus.own_name(program), lazy=True)
        self._tickers = {product: _TickerMemory() for product in products}
        self._log = get_logger().bind(venue=venue)
        self._log_limiter = LogLimiter()
        self._dead_letter_budget, self._budget_at = MAX_DEAD_LETTERS_PER_S, time.monotonic()

    def ready(self, stop: threading.Event, within_s: float) -> None:
        """Wait until every publisher is open or was refused once, for at most `within_s`."""
        until = time.monotonic() + within_s
        while any(not one.attempts for one in self._all()) and time.monotonic() < until and not stop.wait(0.02):
            pass

    def _header(self, product: str, snapshot: bool, received_us: int) -> tuple[str, str, AssetClass, Origin, int]:
        """Return the fields with which every message begins."""
        return self._venue, product, self._asset_class(product), "snapshot" if snapshot else "live", received_us

    def _send(self, space: str, product: str, message: Struct, on_confirmed: Callable[[], None] | None = None) -> bool:
        publisher = self.publishers.get((space, product))
        if publisher is None:  # not configured
            return False
        if publisher.send(message, key=product, on_confirmed=on_confirmed):
            return True
        if publisher.elsewhere:  # another process publishes this product
            return False
        metrics.PUBLISH_OVERFLOWED.labels(self._venue, product).inc()
        if self._log_limiter.allows(f"overflow {publisher.topic}"):
            self._log.error(
                events.BROKER_OVERFLOW, topic=publisher.topic, dropped=publisher.overflowed, reason=publisher.trouble
            )
        return False

    def trades(self, frame: TradeFrame, received_us: int) -> None:
        """Publish the frame's trades as one message."""
        header = self._header(frame.product_id, frame.snapshot, received_us)
        self._send("trades", frame.product_id, TradesMessage(*header, frame.rows))

    def missed(self) -> None:
        """Mark tickers as missed since the last one of each product; the next ticker carries that interval's start."""
        for memory in self._tickers.values():
            memory.missed(memory.sent_us)

    def ticker(self, frame: TickerFrame, received_us: int) -> None:
        """Publish a ticker, unless bid, ask, their sizes and the last price are unchanged."""
        memory = self._tickers[frame.product_id]
        publisher = self.publishers.get(("tickers", frame.product_id))
        if publisher is not None and publisher.failed != memory.failed:  # the broker refused some of its messages
            memory.failed = publisher.failed
            memory.missed(memory.confirmed_us)
        quote = frame.quote
        shown = (quote.bid, quote.ask, quote.bid_size, quote.ask_size, quote.last)
        if shown == memory.shown and memory.missed_since_us is None:
            return
        stamp = received_us if frame.timestamp_us is None else frame.timestamp_us
        message = TickerMessage(
            *self._header(frame.product_id, frame.snapshot, received_us),
            timestamp_us=stamp,
            timestamp_is_received=frame.timestamp_us is None,
            seq=memory.number(stamp),
            missed_since_us=memory.missed_since_us,
            **structs.asdict(quote),
        )
        if self._send("tickers", frame.product_id, message, memory.confirms(stamp)):
            memory.shown, memory.missed_since_us, memory.sent_us = shown, None, stamp
        else:
            memory.missed(memory.sent_us)

    def candles(self, frame: CandleFrame, received_us: int) -> None:
        """Publish the frame's candles as one message."""
        header = self._header(frame.product_id, frame.snapshot, received_us)
        as_of_us = received_us if frame.as_of_us is None else frame.as_of_us
        self._send("candles", frame.product_id, CandlesMessage(*header, as_of_us, frame.granularity_s, frame.rows))

    def unreadable(self, what: Unreadable, source: str) -> None:
        """Publish a dead letter with the bytes as received. Never raises."""
        metrics.FRAMES_UNREADABLE.labels(self._venue, what.reason).inc()
        if self._log_limiter.allows(f"unreadable {what.reason}"):
            self._log.error(events.PARSE_ERROR, reason=what.reason, detail=what.detail[:500])
        now = time.monotonic()
        budget = self._dead_letter_budget + (now - self._budget_at) * MAX_DEAD_LETTERS_PER_S
        self._dead_letter_budget, self._budget_at = min(MAX_DEAD_LETTERS_PER_S, budget), now
        if self._dead_letter_budget < 1.0:
            if self._log_limiter.allows("too many dead letters"):
                self._log.error(
                    events.PARSE_ERROR, reason="too_many", detail="too many dead letters; further ones are only counted"
                )
            return
        self._dead_letter_budget -= 1.0
        detail, payload = what.detail[:MAX_LETTER_DETAIL], what.payload
        if len(payload) > MAX_LETTER_BYTES:
            detail += f" (the first {MAX_LETTER_BYTES} of {len(payload)} bytes)"
            payload = payload[:MAX_LETTER_BYTES]
        letter = {
            "source": self._program,
            "topic": source,
            "message_id": "",
            "row": None,
            "reason": what.reason,
            "detail": detail.encode(errors="replace").decode(),
            "payload": payload,
            "at_us": now_us(),
        }
        try:
            sent = self.dead_letters.send(letter)
        except PipelineError:
            sent = False
        if not sent:
            metrics.LETTERS_LOST.labels(self._venue).inc()
            if self._log_limiter.allows("lost dead letters"):
                self._log.error(
                    events.BROKER_OVERFLOW,
                    topic=self.dead_letters.topic,
                    dropped=self.dead_letters.overflowed,
                    reason=self.dead_letters.trouble,
                )

    @property
    def pending(self) -> int:
        """The number of messages not yet confirmed by the broker."""
        return sum(publisher.pending for publisher in self._all())

    @property
    def overflowed(self) -> int:
        return sum(publisher.overflowed for publisher in self._all())

    @property
    def failed(self) -> int:
        return sum(publisher.failed for publisher in self._all())

    def _all(self) -> list[Publisher]:
        return [*self.publishers.values(), self.dead_letters]

    def flush(self, timeout_s: float) -> int:
        """Wait for confirmations, for at most `timeout_s` in total; returns the number of unconfirmed messages."""
        until = time.monotonic() + timeout_s
        for publisher in self._all():
            publisher.flush(max(0.0, until - time.monotonic()))
        return self.pending


class _TickerMemory:
    """A product's last published ticker, row numbers of recent timestamps, and since when tickers are missing.

    All times are the tickers' own, in µs.
    """

    def __init__(self) -> None:
        self.shown: tuple[str | None, ...] | None = None
        # 0: since the last stored ticker, because this process cannot know when its predecessor ended.
        self.missed_since_us: int | None = 0
        # Missed time is measured by the tickers' own times: the venue's clock may be far from ours.
        self.sent_us = 0
        self.confirmed_us = 0
        self.failed = 0
        self._rows: OrderedDict[int, int] = OrderedDict()

    def missed(self, since_us: int) -> None:
        """Note that tickers since `since_us` were not published."""
        if self.missed_since_us is None or since_us < self.missed_since_us:
            self.missed_since_us = since_us

    def confirms(self, timestamp_us: int) -> Callable[[], None]:
        """Return a callback for the broker's confirmation of the ticker of this time."""

        def confirmed() -> None:
            self.confirmed_us = timestamp_us

        return confirmed

    def number(self, timestamp_us: int) -> int:
        """Return 0, 1, 2 ... for the rows with one timestamp, also when an older timestamp arrives late."""
        number = self._rows.get(timestamp_us, -1) + 1
        self._rows[timestamp_us] = number
        if len(self._rows) > 1000:
            self._rows.popitem(last=False)
        return number
