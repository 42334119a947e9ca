"""The plan of a run and its outcome."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pipeline.core import events
from pipeline.core.log import get_logger
from schemas.records import Quorum

# The writer needs well under a second for a page. A run without --follow gives up after this long without progress.
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Plan:
    """Parameters of a run; times in µs."""

    granularity_s: int
    start_us: int
    quorum: Quorum
    settle_us: int
    follow: bool = False

    @property
    def width_us(self) -> int:
        return self.granularity_s * 1_000_000

    @property
    def patience_s(self) -> float | None:
        """Seconds to wait for the writer; None: forever."""
        return None if self.follow else PATIENCE_S


@dataclass
class Outcome:
    """The result of a pass."""

    calls: int = 0
    candles: int = 0  # published, including those stored before
    processed: Counter[str] = field(default_factory=Counter)  # final candles published, by product
    problems: list[str] = field(default_factory=list)

    def log(self, venue: str, product_id: str) -> None:
        """Log how many candles of the product were processed, if any."""
        if count := self.processed[product_id]:
            text = f"Successfully processed {count} candles for {product_id}"
            get_logger().info(events.CANDLES_PROCESSED, venue=venue, product=product_id, candles=count, text=text)
