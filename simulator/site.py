"""The running parts of a venue: handlers, limits, stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from simulator.config import Config
from simulator.rest import Policy
from simulator.stream import StreamVenue
from simulator.world import World


class Part(Protocol):
    """Handlers of some paths."""

    def routes(self) -> Sequence[web.RouteDef]: ...


@dataclass(frozen=True, kw_only=True)
class Site:
    """One venue. Its stream is reached under the paths of `Listing.sockets`."""

    policies: Callable[[Config], Sequence[Policy]]
    parts: Callable[[World], Sequence[Part]]
    stream: Callable[[World], StreamVenue] | None = None
