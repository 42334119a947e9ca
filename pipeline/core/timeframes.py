"""The timeframes of the candle views."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.core.errors import WrongUse
from pipeline.core.products import short


@dataclass(frozen=True)
class Timeframe:
    """A timeframe. `source`: the timeframe of the candle table behind its view."""

    name: str
    width_us: int
    source: str

    def bucket_us(self, timestamp_us: int) -> int:
        """Return the start of the candle containing a time. Like the views' buckets, multiples of the width since 1970,
        since all widths divide a day."""
        return timestamp_us - timestamp_us % self.width_us


_MINUTE = 60_000_000
TIMEFRAMES = {
    name: Timeframe(name, minutes * _MINUTE, "1m" if minutes < 60 else "1h")
    for name, minutes in {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "12h": 720, "1d": 1440}.items()
}


def timeframe_of(name: str) -> Timeframe:
    """Return the timeframe. Raises `WrongUse` for an unknown name."""
    if name not in TIMEFRAMES:
        raise WrongUse(f"{short(name)} is not a valid timeframe; choose one of {', '.join(TIMEFRAMES)}.")
    return TIMEFRAMES[name]
