"""Candles made by a venue, by REST: the interface of `producers.exchange_candles` to ccxt and to venue folders."""

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
    """A market's step sizes; None where the venue does not publish them, or they are not needed."""

    price: Decimal | None = None
    volume: Decimal | None = None


@dataclass(frozen=True)
class GivenCandles:
    """One answer.

    `pairs`: for each row `[start in ms, open, high, low, close, volume]`, or the exception that parsing it raised, and
    the row as received. `date`: the answer's `Date` header. `running_us`: start of the earliest candle that the venue
    itself marks as incomplete; None if it marks none.
    """

    pairs: Sequence[tuple[Any, Any]]
    date: str | None
    running_us: int | None = None


class CandleSource(Protocol):
    """Candles of one venue. `load` and `fetch` make one request each; the caller retries and waits for the rate limit.

    Both raise `Refused`, `Unavailable` or another `PipelineError`.
    """

    page_size: int
    """Most candles in one answer."""
    calls_per_s: float
    """Rate that the venue allows."""

    def granularities(self) -> Collection[int]:
        """Return the candle widths that the venue offers, in seconds."""

    def load(self) -> None:
        """Request the venue's list of markets."""

    @property
    def loaded(self) -> bool:
        """Whether `load` has succeeded."""

    def lists(self, product_id: str) -> bool:
        """Return whether the product is an active spot market."""

    def units(self, product_id: str) -> Units:
        """Return the step sizes of a listed product."""

    def fetch(self, product_id: str, granularity_s: int, since_us: int, limit: int) -> GivenCandles:
        """Request `limit` candles from `since_us` on; returns whatever the venue gives, which may be others."""


class CandleRest(Protocol[S_contra]):
    """Create a venue's candle source. Raises `WrongUse` if a setting is missing."""

    def __call__(self, settings: S_contra, stop: threading.Event) -> CandleSource: ...
