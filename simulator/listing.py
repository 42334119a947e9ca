"""Static facts of a venue: how it lists products, and its paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One venue. Paths begin with a slash; names of settings are those of the pipeline."""

    separator: str = "-"  # between base and quote of its symbols
    decimals: Mapping[str, int] = field(default_factory=dict)  # of prices, by base; empty: it trades nothing here
    time_step_ns: int = 1000  # its times are multiples of this
    rest_time_step_ns: int = 1  # the same of what REST tells of a trade
    offset: float = 0.0  # of its prices against the market's, as a share
    sockets: Mapping[str, str] = field(default_factory=dict)  # setting -> path; empty: it streams nothing
    lines: Mapping[str, str] = field(default_factory=dict)  # setting -> path under which it streams over HTTP
    lets_in: Mapping[str, str] = field(default_factory=dict)  # setting -> the key, token or account that it wants
    id_step: int = 1  # between two trades of a product; above 1, ids are unique over all products of the venue
    pages: Mapping[str, str] = field(default_factory=dict)  # setting -> path
    candles: str | None = None  # path that takes the place of the host in ccxt's addresses
    session: str | None = None  # its recorded WebSocket session, below `recordings/`
