"""Intervals that an exchange could not prove: reported, and retried with growing pauses. Times in µs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pipeline.core.times import us_to_iso
from producers.exchange_candles.intervals import Interval, common, without

FIRST_S, LONGEST_S = 60.0, 3600.0
SHOWN = 5  # items of a list shown to users


@dataclass(frozen=True)
class Put:
    """One interval. `next_at` is monotonic; `quiet`: not a problem yet, only too early."""

    span: Interval
    why: str
    delay_s: float
    next_at: float
    quiet: bool = False


class Aside:
    """The intervals set aside for one product."""

    def __init__(self) -> None:
        self._puts: list[Put] = []

    def put(self, span: Interval, why: str, *, first_s: float = FIRST_S, quiet: bool = False) -> None:
        """Set an interval aside for `first_s` seconds; if it was set aside before, for twice as long as the last
        time."""
        before = [one for one in self._puts if common([one.span], [span])]
        delay = max([first_s, *(min(LONGEST_S, 2 * one.delay_s) for one in before)])
        # The second time it counts as a problem.
        self.drop([span])
        self._puts.append(Put(span, why, delay, time.monotonic() + delay, quiet and not before))

    def drop(self, spans: Iterable[Interval]) -> None:
        """Remove intervals that are proven, or no longer of interest."""
        gone = list(spans)
        self._puts = [replace(one, span=rest) for one in self._puts for rest in without([one.span], gone)]

    def keep(self, spans: Iterable[Interval]) -> None:
        """Remove everything outside these intervals."""
        kept = list(spans)
        self._puts = [replace(one, span=rest) for one in self._puts for rest in common([one.span], kept)]

    def blocked(self) -> list[Interval]:
        """Return the intervals that must not be requested now."""
        now = time.monotonic()
        return [one.span for one in self._puts if one.next_at > now]

    def named(self) -> list[str]:
        """Return the problems as text: a few intervals and the number of others."""
        found = [one for one in self._puts if not one.quiet]
        texts = [f"{us_to_iso(one.span[0])} .. {us_to_iso(one.span[1])}: {one.why}" for one in found[:SHOWN]]
        return [*texts, *([f"and {len(found) - SHOWN} more intervals"] if len(found) > SHOWN else [])]
