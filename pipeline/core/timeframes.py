"""The timeframes of the candle views: the one list of them."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.core.errors import WrongUse
from pipeline.core.products import short


@dataclass(frozen=True)
class Timeframe:
    """`source` names the candle table that its view is made of, `source_us` that table's width."""

    name: str
    width_us: int
    source: str

    @property
    def source_us(self) -> int:
        return 60_000_000 if self.source == "1m" else 3_600_000_000

    def bucket_us(self, timestamp_us: int) -> int:
        """Start of the candle of a moment. The views' buckets are whole multiples since 1970 too, all being parts of
        a day."""
        return timestamp_us - timestamp_us % self.width_us


_MINUTE = 60_000_000
TIMEFRAMES = {
    name: Timeframe(name, minutes * _MINUTE, "1m" if minutes < 60 else "1h")
    for name, minutes in {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "12h": 720, "1d": 1440}.items()
}


def timeframe_of(name: str) -> Timeframe:
    """Raises `WrongUse` for an unknown name."""
    if name not in TIMEFRAMES:
        raise WrongUse(f"{short(name)} is not a timeframe; choose one of {', '.join(TIMEFRAMES)}.")
    return TIMEFRAMES[name]
