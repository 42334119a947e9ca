"""What every venue provides: `venues/<name>/adapter.py` defines one `ADAPTER`.

It is an `Adapter` for a live venue, and a `Vendor` for one whose data a separate program loads, such as Dukascopy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from pipeline.core.products import AssetClass
from pipeline.core.settings import VenueSettings
from venues.candle_source import CandleRest
from venues.trade_walk import Source
from venues.trade_windows import WindowRest
from venues.venue import Venue

S = TypeVar("S", bound=VenueSettings)
S_contra = TypeVar("S_contra", bound=VenueSettings, contravariant=True)


class Proof(StrEnum):
    """How completeness of a venue's data is proven. Stored in `instruments.proof`."""

    IDS = "contiguous ids"  # per product: a missing number is a missing trade
    SEQUENCE = "sequence per connection"  # an interval is proven while the frames' sequence numbers have no jump
    WINDOWS = "time windows"  # an interval is proven once the stream has been compared with REST
    HOURS = "hours"  # hourly files: each is stored completely, or was requested and does not exist
    SAMPLED = "sampled"  # the venue omits updates at will: nothing is ever called complete


class Rest(Protocol[S_contra]):
    """Create the venue's REST source. `attempts`: calls per request before it counts as unavailable."""

    def __call__(self, settings: S_contra, state_dir: Path, stop: threading.Event, *, attempts: int = 6) -> Source: ...


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """A source of data. Found by `venues.registry`; nothing outside its folder refers to it by name."""

    name: str
    """Identifier in topics, tables and settings: `kraken`."""
    title: str
    """Display name: `Kraken`."""
    proof: Proof
    aliases: Mapping[str, str] = field(default_factory=dict)
    """The venue's own asset names -> the usual ones: Kraken's `XDG` is `DOGE`."""


@dataclass(frozen=True, kw_only=True)
class Adapter(Vendor, Generic[S]):
    """A live venue."""

    settings: type[S]
    products: Callable[[S], tuple[str, ...]]
    """The configured products: canonical ids without duplicates. Raises `WrongUse`."""
    stream: Callable[[S, Path, threading.Event], Venue]
    """Create the stream from settings, `STATE_DIR` and the event that stops the program."""
    rest: Rest[S] | None = None
    """Trades by id, for a venue whose ids are contiguous."""
    recent: WindowRest[S] | None = None
    """The newest trades, for a venue that is proven by time windows."""
    candles: CandleRest[S] | None = None
    """Candles by REST, for a venue that ccxt does not know: `producers.exchange_candles` takes them from here."""
    asset_class: Callable[[str], AssetClass] = lambda product_id: "crypto"
    """Asset class of a product id."""
    alive: Callable[[S], str]
    """URL of a REST endpoint that answers while the venue is up, if only by asking for a key. For `doctor`."""
