"""From what a frame says to messages on topics. Nothing here waits: the reader of a socket must not.

What the broker client cannot take is counted and logged; the ledger will show it as a gap, which gets repaired.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from pipeline import events, metrics
from pipeline.bus import Bus
from pipeline.log import get_logger
from pipeline.process import now_us
from pipeline.products import AssetClass
from pipeline.publisher import Publisher
from pipeline.topics import full_name
from producers.frames import CandleFrame, TickerFrame, TradeFrame, Unreadable

SCHEMAS = {"trades": "trades", "tickers": "ticker", "candles": "candles"}
# Beyond this the log names one case in a while only.
SAY_EVERY_S = 5.0
# A broken format would otherwise copy the whole stream into dead letters.
MAX_DEAD_LETTERS_PER_S = 50.0
_TICKER_CHANGES = ("bid", "ask", "bid_size", "ask_size", "last")


class Outlet:
    """The publishers of one live venue. Names of producers are `<venue>-live`."""

    def __init__(
        self, bus: Bus, venue: str, program: str, products: Iterable[str], namespaces: Iterable[str],
        asset_class: AssetClass = "crypto",
    ) -> None:  # fmt: skip
        self._venue, self._program, self._asset_class = venue, program, asset_class
        self._publishers = {
            (space, product): bus.publisher(space, venue, product, schema=SCHEMAS[space], name=f"{venue}-live")
            for product in products
            for space in namespaces
        }
        dead_letters = full_name(bus.settings.tenant, "dead-letters", program)
        self._dead_letters = bus.publisher_to(dead_letters, "dead_letter", program)
        self._tickers: dict[str, _TickerMemory] = {}
        self._log = get_logger().bind(venue=venue)
        self._said: dict[str, float] = {}
        self._dead_letter_budget, self._budget_at = MAX_DEAD_LETTERS_PER_S, time.monotonic()

    def _header(self, product: str, snapshot: bool, received_us: int) -> dict[str, Any]:
        return {
            "venue": self._venue,
            "product_id": product,
            "asset_class": self._asset_class,
            "origin": "snapshot" if snapshot else "live",
            "received_at_us": received_us,
        }

    def _send(self, space: str, product: str, record: dict[str, Any]) -> bool:
        publisher = self._publishers.get((space, product))
        if publisher is None:  # nobody asked for it
            return False
        if publisher.send(record, key=product):
            return True
        metrics.PUBLISH_OVERFLOWED.labels(self._venue, product).inc()
        if self._may_say(f"overflow {publisher.topic}"):
            self._log.error(events.BROKER_OVERFLOW, topic=publisher.topic, dropped=publisher.overflowed)
        return False

    def _may_say(self, what: str) -> bool:
        now = time.monotonic()
        if now - self._said.get(what, -SAY_EVERY_S) < SAY_EVERY_S:
            return False
        self._said[what] = now
        return True

    def trades(self, frame: TradeFrame, received_us: int) -> None:
        """One message for the frame's trades."""
        header = self._header(frame.product_id, frame.snapshot, received_us)
        self._send("trades", frame.product_id, header | {"trades": frame.rows, "holes": []})

    def ticker(self, frame: TickerFrame, received_us: int, missed_since_us: int | None) -> None:
        """A message, unless bid, ask, their sizes and the last price are what they were."""
        memory = self._tickers.setdefault(frame.product_id, _TickerMemory())
        shown = tuple(frame.values.get(name) for name in _TICKER_CHANGES)
        if shown == memory.shown and missed_since_us is None:
            return
        stamp = received_us if frame.timestamp_us is None else frame.timestamp_us
        record = self._header(frame.product_id, frame.snapshot, received_us) | frame.values
        record["timestamp_us"] = stamp
        record["timestamp_is_received"] = frame.timestamp_us is None
        record["seq"] = memory.number(stamp)
        record["missed_since_us"] = missed_since_us
        if self._send("tickers", frame.product_id, record):
            memory.shown = shown

    def candles(self, frame: CandleFrame, received_us: int) -> None:
        record = self._header(frame.product_id, frame.snapshot, received_us)
        record |= {"as_of_us": frame.as_of_us, "granularity_s": frame.granularity_s, "candles": frame.rows}
        self._send("candles", frame.product_id, record)

    def unreadable(self, what: Unreadable, source: str) -> None:
        """A dead letter with the bytes as they came."""
        metrics.FRAMES_UNREADABLE.labels(self._venue, what.reason).inc()
        if self._may_say(f"unreadable {what.reason}"):
            self._log.error(events.PARSE_ERROR, reason=what.reason, detail=what.detail[:500])
        now = time.monotonic()
        budget = self._dead_letter_budget + (now - self._budget_at) * MAX_DEAD_LETTERS_PER_S
        self._dead_letter_budget, self._budget_at = min(MAX_DEAD_LETTERS_PER_S, budget), now
        if self._dead_letter_budget < 1.0:
            if self._may_say("too many dead letters"):
                self._log.error(events.PARSE_ERROR, reason="too_many", detail="counted, no longer kept one by one")
            return
        self._dead_letter_budget -= 1.0
        letter = {
            "source": self._program, "topic": source, "message_id": "", "row": None, "reason": what.reason,
            "detail": what.detail, "payload": what.payload, "at_us": now_us(),
        }  # fmt: skip
        if not self._dead_letters.send(letter) and self._may_say("overflow dead letters"):
            self._log.error(events.BROKER_OVERFLOW, topic=self._dead_letters.topic)

    @property
    def pending(self) -> int:
        """Messages that the broker has not confirmed."""
        return sum(publisher.pending for publisher in self._all())

    @property
    def overflowed(self) -> int:
        return sum(publisher.overflowed for publisher in self._all())

    def _all(self) -> list[Publisher]:
        return [*self._publishers.values(), self._dead_letters]

    def flush(self, timeout_s: float) -> int:
        """Wait until all is confirmed, at most this long in total; returns how many messages are not."""
        until = time.monotonic() + timeout_s
        for publisher in self._all():
            publisher.flush(max(0.0, until - time.monotonic()))
        return self.pending


class _TickerMemory:
    """What was published of a product: the shown values, and how many rows of the last instants."""

    def __init__(self) -> None:
        self.shown: tuple[Any, ...] | None = None
        self._rows: OrderedDict[int, int] = OrderedDict()

    def number(self, timestamp_us: int) -> int:
        """0, 1, 2 ... for the rows of one instant, also when an older instant comes late."""
        number = self._rows.get(timestamp_us, -1) + 1
        self._rows[timestamp_us] = number
        if len(self._rows) > 1000:
            self._rows.popitem(last=False)
        return number
