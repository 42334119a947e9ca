"""What a run of the exchange candles is about, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.records import Quorum

# The writer needs well under a second for a page. A run that ends gives up after this long without progress.
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Plan:
    """What a run is about."""

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
        """None: wait for the writer as long as it takes."""
        return None if self.follow else PATIENCE_S


@dataclass
class Outcome:
    """What a pass did."""

    calls: int = 0
    candles: int = 0  # published, also those that were stored before
    problems: list[str] = field(default_factory=list)
