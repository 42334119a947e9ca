"""Dead letters of `exchange-candles`: rows of an answer that are no candles, each once, a bounded number of them."""

from __future__ import annotations

import threading
import time
import zlib
from collections import OrderedDict

from pipeline.broker.client import Bus
from pipeline.broker.publisher import Publisher
from pipeline.broker.topics import full_name
from pipeline.core import events, metrics
from pipeline.core.errors import PipelineError
from pipeline.core.log import get_logger
from pipeline.core.runtime import now_us
from pipeline.core.times import us_to_iso
from producers.exchange_candles.rows import Refused

SOURCE = "exchange-candles"
# A broken format would otherwise copy the whole history into letters. A page of bad rows, then ten a second.
BURST, PER_S = 1000.0, 10.0
REMEMBERED = 10_000
SAY_EVERY_S = 60.0


class Letters:
    """Thread-safe. `name` of the Pulsar producer is one of this process, so that several may run."""

    def __init__(self, bus: Bus, name: str) -> None:
        self._bus, self._name = bus, name
        self._lock = threading.Lock()
        self._publisher: Publisher | None = None
        self._sent: OrderedDict[tuple[str, str, int], None] = OrderedDict()
        self._budget, self._budget_at = BURST, time.monotonic()
        self._said: dict[tuple[str, str, str], float] = {}
        self.left_out = 0

    def row(self, venue: str, product_id: str, refused: Refused) -> None:
        """Say it once in a while by reason, and keep the row as it came. Returns at once."""
        where = "" if refused.bucket_us is None else f"{us_to_iso(refused.bucket_us)}: "
        key = (venue, product_id, zlib.crc32(f"{refused.bucket_us} {refused.reason}".encode() + refused.payload))
        with self._lock:
            if key in self._sent:
                return
            self._sent[key] = None
            if len(self._sent) > REMEMBERED:
                self._sent.popitem(last=False)
            metrics.FRAMES_UNREADABLE.labels(venue, refused.reason).inc()
            now = time.monotonic()
            kind = (venue, product_id, refused.reason)
            if now - self._said.get(kind, -SAY_EVERY_S) >= SAY_EVERY_S:
                self._said[kind] = now
                get_logger().error(
                    events.PARSE_ERROR,
                    venue=venue,
                    product=product_id,
                    reason=refused.reason,
                    detail=where + refused.detail,
                )
            self._budget = min(BURST, self._budget + (now - self._budget_at) * PER_S)
            self._budget_at = now
            if self._budget < 1.0:
                self.left_out += 1
                return
            self._budget -= 1.0
        # An address instead of a topic: it never was a message, so there is nothing to send again.
        letter: dict[str, object] = {
            "source": SOURCE,
            "topic": f"ccxt {venue} {product_id}",
            "message_id": "",
            "row": None,
            "reason": refused.reason,
            "detail": where + refused.detail,
            "payload": refused.payload,
            "at_us": now_us(),
        }
        self._send(letter)

    def _send(self, letter: dict[str, object]) -> None:
        with self._lock:
            try:
                if self._publisher is None:
                    topic = full_name(self._bus.settings.tenant, "dead-letters", SOURCE)
                    self._publisher = self._bus.publisher_to(topic, "dead_letter", f"{SOURCE}-{self._name}")
            except PipelineError as error:  # only when stopped meanwhile, or without the right to
                get_logger().error(events.BROKER_RETRY, on="dead letters", error=str(error))
                return
            self._publisher.send(letter, wait=True)

    def flush(self, timeout_s: float) -> bool:
        """Wait until all are confirmed; False when they are not in time."""
        return self._publisher is None or self._publisher.flush(timeout_s)
