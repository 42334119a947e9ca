"""Candles that a venue made itself, by REST: what `producers.exchange_candles` asks, of ccxt or of a venue's folder."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from pipeline.core.settings import VenueSettings

S_contra = TypeVar("S_contra", bound=VenueSettings, contravariant=True)


@dataclass(frozen=True)
class Units:
    """The market's step sizes, where the venue publishes them."""

    price: Decimal | None = None
    volume: Decimal | None = None


@dataclass(frozen=True)
class GivenCandles:
    """One answer.

    `pairs`: for each row `[start in ms, open, high, low, close, volume]`, or the exception that reading it raised, and
    the row as it came. `date`: the answer's header. `running_us`: the start of the earliest candle that the venue
    itself says is not complete; None where it says nothing of that kind.
    """

    pairs: Sequence[tuple[Any, Any]]
    date: str | None
    running_us: int | None = None


class CandleSource(Protocol):
    """Candles of one venue. One call each: whoever uses it retries and waits for the rate limit.

    The two that ask raise `Refused`, `Unavailable` or another `PipelineError`.
    """

    page_size: int
    """Candles in one answer."""
    calls_per_s: float

    def granularities(self) -> Collection[int]:
        """The widths on offer, in seconds."""

    def load(self) -> None:
        """Ask for the venue's markets."""

    @property
    def loaded(self) -> bool:
        """Whether the markets are known."""

    def lists(self, product_id: str) -> bool:
        """Whether the product is an active spot market."""

    def units(self, product_id: str) -> Units:
        """Of a listed product."""

    def fetch(self, product_id: str, granularity_s: int, since_us: int, limit: int) -> GivenCandles:
        """Ask for `limit` candles from `since_us`; return whatever the venue gives."""


class CandleRest(Protocol[S_contra]):
    """Create a venue's candle source. Raises `WrongUse` where a setting is missing."""

    def __call__(self, settings: S_contra, stop: threading.Event) -> CandleSource: ...
