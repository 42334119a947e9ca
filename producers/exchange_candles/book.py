"""What a walk knows of a product, and where its results go. Times in µs."""

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
    """What is known of one product beside the database."""

    memory: Memory
    aside: Aside = field(default_factory=Aside)
    shown: dict[int, Values] = field(default_factory=dict)  # candles published as not final
    coarse_fits: bool = True  # its hours are what its minutes say


@dataclass(frozen=True)
class Results:
    """Where results go: final candles with their span, others, and rows that are none."""

    final: Callable[[dict[int, Values], Interval, int], None]
    young: Callable[[dict[int, Values], int], None]
    refused: Callable[[RefusedRow], None]
