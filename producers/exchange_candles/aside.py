"""Spans that an exchange could not prove, by product: named, and asked for again later and later. Times in µs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pipeline.core.times import us_to_iso
from producers.exchange_candles.intervals import Interval, common, without

FIRST_S, LONGEST_S = 60.0, 3600.0
SHOWN = 5  # of a list that a person reads


@dataclass(frozen=True)
class Put:
    """One span. `next_at` is monotonic; `quiet`: no trouble yet, it is only not its time."""

    span: Interval
    why: str
    delay_s: float
    next_at: float
    quiet: bool = False


class Aside:
    """Of one product."""

    def __init__(self) -> None:
        self._puts: list[Put] = []

    def put(self, span: Interval, why: str, *, first_s: float = FIRST_S, quiet: bool = False) -> None:
        """Ask for it again after `first_s`; where it was here before, after twice as long as the last time."""
        before = [one for one in self._puts if common([one.span], [span])]
        delay = max([first_s, *(min(LONGEST_S, 2 * one.delay_s) for one in before)])
        # A second time is trouble.
        self.drop([span])
        self._puts.append(Put(span, why, delay, time.monotonic() + delay, quiet and not before))

    def drop(self, spans: Iterable[Interval]) -> None:
        """These are proven, or of no interest any more."""
        gone = list(spans)
        self._puts = [replace(one, span=rest) for one in self._puts for rest in without([one.span], gone)]

    def keep(self, spans: Iterable[Interval]) -> None:
        """Everything else is of no interest any more."""
        kept = list(spans)
        self._puts = [replace(one, span=rest) for one in self._puts for rest in common([one.span], kept)]

    def blocked(self) -> list[Interval]:
        """What is not to be asked for now."""
        now = time.monotonic()
        return [one.span for one in self._puts if one.next_at > now]

    def named(self) -> list[str]:
        """What is wrong, for people: a few spans and how many more."""
        found = [one for one in self._puts if not one.quiet]
        texts = [f"{us_to_iso(one.span[0])} .. {us_to_iso(one.span[1])}: {one.why}" for one in found[:SHOWN]]
        return [*texts, *([f"and {len(found) - SHOWN} more spans"] if len(found) > SHOWN else [])]
