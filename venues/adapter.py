"""What a venue must give, so that every program knows it: `venues/<name>/adapter.py` has one `ADAPTER`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from pipeline.core.settings import VenueSettings
from venues.trade_walk import Source
from venues.venue import Venue

S = TypeVar("S", bound=VenueSettings)
S_contra = TypeVar("S_contra", bound=VenueSettings, contravariant=True)


class Proof(StrEnum):
    """How it is shown that no trade of a venue is missing."""

    IDS = "contiguous ids"  # of each product: a missing number is a missing trade
    SEQUENCE = "sequence per connection"
    WINDOWS = "time windows"  # the stream is compared with REST, window by window
    SAMPLED = "sampled"  # the venue leaves out what it likes: nothing is ever called complete


class Rest(Protocol[S_contra]):
    """Makes the venue's REST side. `attempts`: calls for one answer, before it counts as unavailable."""

    def __call__(self, settings: S_contra, state_dir: Path, stop: threading.Event, *, attempts: int = 6) -> Source: ...


@dataclass(frozen=True)
class Adapter(Generic[S]):
    """A live venue. Nothing outside its folder names it; `venues.registry` finds it."""

    name: str
    """As in topics, tables and settings: `kraken`."""
    title: str
    """As people write it: `Kraken`."""
    proof: Proof
    settings: type[S]
    products: Callable[[S], tuple[str, ...]]
    """The configured products, canonical, each once. Raises `WrongUse`."""
    stream: Callable[[S, Path, threading.Event], Venue]
    rest: Rest[S]
    alive: Callable[[S], str]
    """An address of its REST side that answers 200 while it is well."""
