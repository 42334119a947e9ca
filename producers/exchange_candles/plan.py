"""The plan of a run and its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    problems: list[str] = field(default_factory=list)
