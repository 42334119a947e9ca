"""The plan of faults: derived from the seed; can be saved and replayed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from simulator.faults import KINDS as SIMULATED
from simulator.venues import listings
from venues.adapter import Proof
from venues.registry import adapters

LOADS = ("load-eurusd", "load-btcusd")
VENUES = tuple(adapters())
# Those whose trades are judged by the tape's, and those that send samples: judged by what was sent.
TRADING = tuple(name for name, one in adapters().items() if one.proof is not Proof.SAMPLED)
SAMPLED = tuple(name for name, one in adapters().items() if one.proof is Proof.SAMPLED)
FEEDING = ("trades-writer", "quotes-writer", "gap-filler", *VENUES)
TIERS = ("archive", "retention")  # what moves rows from the tables into files
PROGRAMS = (*FEEDING, "watchdog", "dashboard", *LOADS)
SERVICES = ("broker", "database")
PATHS = ("database", "broker", "venues")
STREAM_FAULTS = ("cut", "silence", "mute", "drop", "double", "reorder", "malformed", "truncated-frame")
REST_FAULTS = ("rate-limit", "429", "5xx", "html", "empty", "truncated-body", "wrong-length", "slow", "lag")
COINS = ("BTC", "ETH", "SOL")


def products_of(venue: str) -> tuple[str, ...]:
    """Three of a venue: the coins, or what else it lists."""
    listed = listings()[venue].decimals
    bases = [base for base in COINS if base in listed] or list(listed)[: len(COINS)]
    return tuple(f"{base}-USD".lower() for base in bases)


# Topics that somebody terminates or deletes. Not the dead letters: the judge looks for what it poisoned there. Nor
# those of samples: of what is deleted unread, nobody can say afterwards that it was missed.
TOPICS = (
    *(f"trades/{venue}.{product}" for venue in TRADING for product in products_of(venue)),
    "quotes/dukascopy.eur-usd",
    f"tickers/{TRADING[0]}.btc-usd",
    "control/heads",
    "control/gaps",
)
# By how many seconds our clock goes wrong. The tape begins an hour ago, so -3690 puts the venue 90 s ahead of us.
SKEWS_S = (-31 * 86_400, -2 * 86_400, -3690, -120, 120, 3600, 31 * 86_400)
# Relative frequency of each kind.
_WEIGHTS = {
    "kill": 26,
    "kill_tier": 16,
    "freeze": 14,
    "freeze_for_ever": 3,
    "kill_supervisord": 3,
    "cut": 10,
    "stall": 8,
    "stream": 16,
    "rest": 10,
    "poison": 5,
    "clock": 3,
    "hole": 2,
    "disk_full": 2,
    "terminate": 4,
    "delete": 4,
    "unload": 3,
    "refuse": 4,
    "hostile": 10,
    "skew": 6,
    "ignore": 5,
    "restore": 2,
}
KINDS = tuple(_WEIGHTS)
# Venues that leave out a product exist where the simulator knows how.
IGNORING = tuple(kind for kind in ("ignore", "rename") if kind in SIMULATED)
LONGEST_JUMPS_S = 3000  # the tape begins an hour ago, and never runs ahead of the machine's clock


@dataclass(frozen=True)
class Fault:
    """`at_s` counts from the start of the faults, `seconds` is how long it lasts (0: at once)."""

    at_s: float
    kind: str
    target: str
    seconds: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.0f} s" if self.seconds else ""
        more = f" {self.options}" if self.options else ""
        return f"{self.at_s:7.1f} s  {self.kind} {self.target}{lasts}{more}"


def make(
    seed: int, seconds: float, count: int, *, disk: bool, longest_s: float, without: Sequence[str] = ()
) -> list[Fault]:
    """Plan `count` faults over `seconds`, each at most `longest_s` long; `disk`: whether the disk can be filled."""
    dice = random.Random(seed)
    left_out = {*without, *(() if disk else ("disk_full",)), *(() if IGNORING else ("ignore",))}
    weights = {kind: weight for kind, weight in _WEIGHTS.items() if kind not in left_out}
    jumps = LONGEST_JUMPS_S
    faults = []
    for at_s in sorted(dice.uniform(0, seconds) for _ in range(count)):
        kind = dice.choices(list(weights), list(weights.values()))[0]
        lasts = round(dice.uniform(min(5, longest_s / 2), longest_s) if dice.random() < 0.3 else dice.uniform(2, 10), 1)
        lasts = min(lasts, longest_s)
        fault = _fault(dice, at_s, kind, lasts)
        if kind == "clock":
            jump = max(0, int(fault.options["jump"]))
            if jump > jumps:
                fault = Fault(round(at_s, 1), "kill", VENUES[0])
            else:
                jumps -= jump
        faults.append(fault)
    return faults


def _fault(dice: random.Random, at_s: float, kind: str, lasts: float) -> Fault:
    at_s = round(at_s, 1)
    venue = dice.choice(VENUES)
    if kind == "kill":
        return Fault(at_s, kind, dice.choice((*PROGRAMS, *SERVICES, *SERVICES)))
    if kind == "kill_tier":
        return Fault(at_s, kind, dice.choice(TIERS))
    if kind == "freeze":
        return Fault(at_s, kind, dice.choice((*FEEDING, *TIERS, "watchdog", *SERVICES)), lasts)
    if kind == "freeze_for_ever":
        return Fault(at_s, kind, dice.choice((*FEEDING, *TIERS, *SERVICES)))
    if kind in ("cut", "stall"):
        return Fault(at_s, kind, dice.choice(PATHS), lasts if kind == "stall" else 0.0)
    if kind == "stream":
        name = dice.choice(STREAM_FAULTS)
        counted = name not in ("cut", "silence", "mute")
        return Fault(
            at_s, kind, f"{venue} {name}", 0.0, {"count": dice.randint(1, 8)} if counted else {"seconds": lasts}
        )
    if kind == "rest":
        name = dice.choice(REST_FAULTS)
        stall = {"stall": min(lasts, 20.0)} if name == "slow" else {"lag": 10} if name == "lag" else {}
        return Fault(at_s, kind, f"{venue} {name}", 0.0, {"seconds": lasts, **stall})
    if kind == "clock":
        return Fault(at_s, kind, venue, 0.0, {"jump": dice.choice((1, 1, -0.25)) * dice.randint(20, 120)})
    if kind == "hole":
        return Fault(at_s, kind, dice.choice(TRADING), 0.0, {"count": dice.randint(1, 5)})
    if kind == "disk_full":
        return Fault(at_s, kind, "database", lasts)
    if kind in ("terminate", "refuse"):
        return Fault(at_s, kind, dice.choice(TOPICS), lasts)
    if kind in ("delete", "unload"):
        return Fault(at_s, kind, dice.choice(TOPICS))
    if kind == "hostile":
        return Fault(
            at_s, kind, dice.choice(TOPICS), 0.0, {"seed": dice.randrange(1 << 30), "count": dice.randint(1, 10)}
        )
    if kind == "skew":
        target = dice.choice(("all", "all", "archive", *FEEDING))
        return Fault(at_s, kind, target, lasts, {"by_s": dice.choice(SKEWS_S)})
    if kind == "ignore":
        how = dice.choice(IGNORING)
        more = {"as": f"ODD{listings()[venue].separator}USD"} if how == "rename" else {}
        product = dice.choice(products_of(venue))
        return Fault(at_s, kind, f"{venue} {how}", 0.0, {"seconds": lasts, "product": product, **more})
    if kind == "restore":
        return Fault(at_s, kind, "database", lasts)
    return Fault(at_s, kind, dice.choice(TRADING) if kind == "poison" else "")


def as_json(seed: int, seconds: float, faults: Sequence[Fault]) -> dict[str, Any]:
    return {"seed": seed, "seconds": seconds, "faults": [asdict(fault) for fault in faults]}


def from_json(data: dict[str, Any]) -> tuple[int, float, list[Fault]]:
    return int(data["seed"]), float(data["seconds"]), [Fault(**fault) for fault in data["faults"]]
