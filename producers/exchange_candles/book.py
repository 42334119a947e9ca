"""State of a walk over one product, and the callbacks for its results. Times in µs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from producers.exchange_candles.aside import Aside
from producers.exchange_candles.intervals import Interval
from producers.exchange_candles.looks import Memory
from producers.exchange_candles.rows import Refused as RefusedRow
from producers.exchange_candles.rows import Values


@dataclass
class Book:
    """What is known of one product, in addition to the database."""

    memory: Memory
    aside: Aside = field(default_factory=Aside)
    shown: dict[int, Values] = field(default_factory=dict)  # candles published as not final
    coarse_fits: bool = True  # its hourly candles match its minutes


@dataclass(frozen=True)
class Results:
    """Callbacks: final candles with the interval they cover, candles that may change, and refused rows."""

    final: Callable[[dict[int, Values], Interval, int], None]
    young: Callable[[dict[int, Values], int], None]
    refused: Callable[[RefusedRow], None]
