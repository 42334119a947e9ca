"""Dead letters for rows of REST pages that cannot be stored: one per row, with the row as received."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.broker.client import Bus
from pipeline.broker.publisher import Publisher
from pipeline.broker.topics import full_name
from pipeline.core import events
from pipeline.core.log import get_logger
from pipeline.core.runtime import now_us
from venues.rest.page import BadRow

# A venue that sends nothing but bad rows must not fill memory or the log.
MOST_REMEMBERED = 10_000


class BadRowLetters:
    """Publishes the letters of one program. As thread-safe as `Publisher.send`; a duplicate letter does no harm."""

    def __init__(self, bus: Bus, program: str) -> None:
        self._bus, self._program = bus, program
        self._publisher: Publisher | None = None
        self._sent: set[tuple[str, str, int, int]] = set()

    def send(self, venue: str, product_id: str, rows: Iterable[BadRow]) -> None:
        """Publish a letter per new row without blocking; one the broker refuses now is sent at the second look."""
        for row in rows:
            key = (venue, product_id, row.trade_id, hash(row.payload))
            if key in self._sent or len(self._sent) >= MOST_REMEMBERED:
                continue
            get_logger().warning(
                events.DEAD_LETTER,
                venue=venue,
                product=product_id,
                trade_id=row.trade_id,
                reason=row.reason,
                detail=row.detail,
            )
            if self._publisher is None:
                topic = full_name(self._bus.settings.tenant, "dead-letters", self._program)
                self._publisher = self._bus.publisher_to(topic, "dead_letter", self._program)
            letter = {
                "source": self._program,
                "topic": f"{venue} REST trades of {product_id}",
                "message_id": "",
                "row": None,
                "reason": row.reason,
                "detail": row.detail,
                "payload": row.payload,
                "at_us": now_us(),
            }
            if self._publisher.send(letter):
                self._sent.add(key)
