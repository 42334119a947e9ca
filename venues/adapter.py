"""What a venue must give, so that every program knows it: `venues/<name>/adapter.py` has one `ADAPTER`.

That of a live venue is an `Adapter`. Whose data are loaded by a program of its own, such as Dukascopy, is a `Vendor`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from pipeline.core.settings import VenueSettings
from venues.trade_walk import Source
from venues.venue import Venue

S = TypeVar("S", bound=VenueSettings)
S_contra = TypeVar("S_contra", bound=VenueSettings, contravariant=True)


class Proof(StrEnum):
    """How it is shown that nothing of a venue is missing; as stored in `instruments.proof`."""

    IDS = "contiguous ids"  # per product: a missing number is a missing trade
    SEQUENCE = "sequence per connection"  # a time is proven while the venue's numbers of frames follow each other
    WINDOWS = "time windows"  # a time is proven once the stream was compared with REST
    HOURS = "hours"  # files by the hour: each is stored whole, or was looked for and is not there
    SAMPLED = "sampled"  # the venue omits updates at will: nothing is ever called complete


class Rest(Protocol[S_contra]):
    """Create the venue's REST source. `attempts`: calls per request before it counts as unavailable."""

    def __call__(self, settings: S_contra, state_dir: Path, stop: threading.Event, *, attempts: int = 6) -> Source: ...


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """Whoever data come from, by the name that messages and tables carry. Nothing outside its folder names it;
    `venues.registry` finds it."""

    name: str
    """Identifier in topics, tables and settings: `kraken`."""
    title: str
    """Display name: `Kraken`."""
    proof: Proof
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Its own names of coins in place of the usual ones: `XDG` is `DOGE` at Kraken."""


@dataclass(frozen=True, kw_only=True)
class Adapter(Vendor, Generic[S]):
    """A live venue."""

    settings: type[S]
    products: Callable[[S], tuple[str, ...]]
    """The configured products: canonical ids without duplicates. Raises `WrongUse`."""
    stream: Callable[[S, Path, threading.Event], Venue]
    rest: Rest[S]
    alive: Callable[[S], str]
    """URL of a REST endpoint that answers 200 while the venue is up."""
