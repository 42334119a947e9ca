"""Faults on command. Every fault ends by itself: after a time, after a count, or both.

| kind | where | what the client meets |
|---|---|---|
| cut | stream | all connections end abruptly; none is accepted for `refuse_for` seconds |
| goodbye | stream | the venue announces a shutdown and closes all connections `notice` (1) seconds later (Binance) |
| silence | stream | data stops; heartbeats go on unless `heartbeats` is false |
| mute | stream | a subscription made now is acknowledged and then stays silent until it is made again later |
| ignore | stream | the venue neither acknowledges nor streams `products` |
| rename | stream | the venue acknowledges and streams `products` under the name `as` |
| drop, double, reorder | stream | the next `count` data frames, or each with `probability` for `seconds` |
| malformed, truncated-frame | stream | a data frame that is not valid JSON |
| maintenance | stream, REST | the venue announces `status` (default maintenance) |
| rate-limit | REST | the venue's own refusal of too many calls |
| 429, 5xx (`status`), 404 | REST | that HTTP status |
| html, empty, truncated-body, wrong-length | REST | status 200 with an invalid body |
| slow | REST | the answer comes after `stall` seconds (default 30) |
| lag | REST | REST knows nothing of the last `lag` seconds |
| throttle | REST | 503 above `rate` requests a second (default 1) |
| corrected | Dukascopy | the hour's content differs: every bid and ask is one unit higher |
| hole | tape | the next `count` ids do not exist |
| burst | tape | `count` trades (default 1500) inside one second |
| clock | tape | the tape's clock jumps `jump` seconds ahead; < 0: back, and nothing new trades until then |
| venue-down, wrong-price, missing-candles | candles | 503; prices times `factor`; a `share` of candles is left out |
| settling | candles | for `settle` seconds (default 30) after its close a candle has `share` (0.8) of its volume |
| newest-only | candles | of what was asked for only the newest `most` (500) |
| nan-row | candles | the close of every `every`-th (10) candle is `value`: nan, inf, none, or as given |
| odd-bucket | candles | every `every`-th (10) candle begins `off` (30) seconds late |
| float-noise | candles | volumes have 19 decimals, the last of which is a float's noise |

`products` and `endpoint` (a part of the path, or of the channel's name) narrow a fault. Default length: 10 s where no
count is given.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any

from simulator.limits import TokenBucket
from simulator.venues import listings

STREAM_FRAME_KINDS = ("drop", "double", "reorder", "malformed", "truncated-frame")
TAPE_KINDS = ("hole", "burst", "clock")
KINDS = (
    "cut",
    "goodbye",
    "silence",
    "mute",
    "ignore",
    "rename",
    *STREAM_FRAME_KINDS,
    "maintenance",
    "rate-limit",
    "429",
    "5xx",
    "404",
    "html",
    "empty",
    "truncated-body",
    "wrong-length",
    "slow",
    "lag",
    "throttle",
    "corrected",
    *TAPE_KINDS,
    "venue-down",
    "wrong-price",
    "missing-candles",
    "settling",
    "newest-only",
    "nan-row",
    "odd-bucket",
    "float-noise",
)
OPTIONS = frozenset(
    (
        "refuse_for",
        "notice",
        "heartbeats",
        "products",
        "endpoint",
        "status",
        "stall",
        "lag",
        "rate",
        "jump",
        "factor",
        "share",
        "probability",
        "count",
        "seconds",
        "as",
        "settle",
        "most",
        "every",
        "value",
        "off",
    )
)
DEFAULT_SECONDS = 10.0


class FaultError(Exception):
    """An unknown or incomplete fault; the text lists what is possible."""


@dataclass
class Fault:
    """One fault in force. `ends_at` is monotonic seconds, `left` how often it may still strike (None: no count)."""

    kind: str
    venue: str
    ends_at: float
    left: int | None
    options: dict[str, Any] = field(default_factory=dict)
    bucket: TokenBucket | None = None  # of a throttle

    def in_force(self) -> bool:
        return time.monotonic() < self.ends_at and self.left != 0

    def concerns(self, product: str | None, endpoint: str | None) -> bool:
        products, part = self.options.get("products"), self.options.get("endpoint")
        return not (products and product not in products) and not (part and part not in (endpoint or ""))


class FaultBoard:
    """The active faults. `take` is called at every place where one can take effect."""

    def __init__(self, seed: int) -> None:
        self._faults: list[Fault] = []
        self._random = random.Random(seed)
        self.struck: dict[str, int] = {}

    def add(self, kind: str, venue: str, options: dict[str, Any]) -> Fault:
        """Activate a fault. Raises `FaultError` if it is invalid."""
        kind = kind.replace("_", "-")
        if kind not in KINDS:
            raise FaultError(f"Unknown fault {kind!r}; choose one of {', '.join(KINDS)}.")
        if venue not in listings():
            raise FaultError(f"Unknown venue {venue!r}; choose one of {', '.join(listings())}.")
        if unknown := sorted(options.keys() - OPTIONS):
            raise FaultError(f"Unknown option {', '.join(unknown)}; known are {', '.join(sorted(OPTIONS))}.")
        count, seconds = options.get("count"), options.get("seconds")
        if seconds is None:
            seconds = DEFAULT_SECONDS if count is None else 3600.0
        fault = Fault(kind, venue, time.monotonic() + float(seconds), None if count is None else int(count), options)
        if kind not in TAPE_KINDS:
            self._faults = [f for f in self._faults if f.in_force()] + [fault]
        return fault

    @property
    def any(self) -> bool:
        return bool(self._faults)

    def active(self, venue: str, kind: str, product: str | None = None, endpoint: str | None = None) -> Fault | None:
        """Return the fault if it is active, without using it up."""
        for fault in self._faults:
            if fault.kind == kind and fault.venue == venue and fault.in_force() and fault.concerns(product, endpoint):
                return fault
        return None

    def take(self, venue: str, kind: str, product: str | None = None, endpoint: str | None = None) -> Fault | None:
        """Return the fault if it strikes now; uses up one of its count and draws its probability."""
        fault = self.active(venue, kind, product, endpoint) if self._faults else None
        if fault is None or self._random.random() >= float(fault.options.get("probability", 1.0)):
            return None
        if fault.left is not None:
            fault.left -= 1
        self.struck[f"{venue}/{kind}"] = self.struck.get(f"{venue}/{kind}", 0) + 1
        return fault

    def renamed(self, venue: str, text: str) -> str:
        """Return a frame with the products of `rename` faults renamed."""
        for fault in self._faults:
            if fault.kind == "rename" and fault.venue == venue and fault.in_force():
                for product in fault.options["products"]:
                    text = text.replace(f'"{product}"', f'"{fault.options["as"]}"')
        return text

    def clear(self) -> None:
        """End all faults."""
        self._faults = []

    def as_json(self) -> list[dict[str, Any]]:
        now = time.monotonic()
        return [
            {"kind": f.kind, "venue": f.venue, "seconds_left": f.ends_at - now, "count_left": f.left} | f.options
            for f in self._faults
            if f.in_force()
        ]
