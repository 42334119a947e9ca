"""Dead letters of `exchange-candles`: rows that are not valid candles, each once, with a limited rate."""

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
# Otherwise a changed format would copy the whole history into dead letters. A page of bad rows, then ten a second.
BURST, PER_S = 1000.0, 10.0
REMEMBERED = 10_000
LOG_EVERY_S = 60.0


class Letters:
    """Publishes dead letters. Thread-safe. `name`: the Pulsar producer's, unique per process."""

    def __init__(self, bus: Bus, name: str) -> None:
        self._bus, self._name = bus, name
        self._lock = threading.Lock()
        self._publisher: Publisher | None = None
        self._sent: OrderedDict[tuple[str, str, int], None] = OrderedDict()
        self._budget, self._budget_at = BURST, time.monotonic()
        self._logged_at: dict[tuple[str, str, str], float] = {}
        self.left_out = 0

    def row(self, venue: str, product_id: str, refused: Refused) -> None:
        """Publish a dead letter with the row as received; log occasionally, by reason."""
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
            if now - self._logged_at.get(kind, -LOG_EVERY_S) >= LOG_EVERY_S:
                self._logged_at[kind] = now
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
        # A source instead of a topic: it was never a message, so there is nothing to send again.
        letter: dict[str, object] = {
            "source": SOURCE,
            "topic": f"candles of {venue} {product_id}",
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
            except PipelineError as error:  # only if stopped meanwhile, or not authorized
                get_logger().error(events.BROKER_RETRY, on="dead letters", error=str(error))
                return
            self._publisher.send(letter, wait=True)

    def flush(self, timeout_s: float) -> bool:
        """Wait for all confirmations; returns False on timeout."""
        return self._publisher is None or self._publisher.flush(timeout_s)
