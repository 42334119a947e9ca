"""What an answer proves, and when a candle is final: after two equal looks, the second long enough after its close.

A *look* is what one answer proves: the intervals it fully covers, and the candles in them; a minute without a candle
had no trade. Exchanges answer in many ways (the first candles from a time on, those of a window, the newest of a
window, the newest of all regardless of the request), so an answer proves only what lies between two of its rows, and
beyond them only where nothing else explains it. Pure functions; times in µs, intervals with an exclusive end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from producers.exchange_candles.intervals import Interval, common, holds, merged, without
from producers.exchange_candles.rows import Rows, Values, floor_us, same

# Exchanges close a candle a little late.
GRACE_US = 3_000_000
# A missing candle at the end may still appear for this long; after that it does not exist. An exchange whose candles
# lag behind its trades answers like one without trades.
QUIET_US = 600_000_000


@dataclass(frozen=True)
class Answer:
    """Rows as received, including those outside the window; `at_us` is their time, by the slower clock."""

    rows: Rows
    at_us: int


@dataclass(frozen=True)
class Look:
    """What an answer proves; see the module."""

    at_us: int
    spans: list[Interval]
    rows: dict[int, Values]


def look_of(answer: Answer, from_us: int, limit: int, width_us: int) -> Look:
    """Return what the answer to a request for `limit` candles from `from_us` proves."""
    at_us, window_end = answer.at_us, from_us + limit * width_us
    good = {bucket: values for bucket, values in answer.rows.good.items() if bucket <= at_us}
    refused = {floor_us(one.bucket_us, width_us) for one in answer.rows.refused if one.bucket_us is not None}
    refused -= good.keys()  # a good row of the same time wins
    present = sorted({*good, *(bucket for bucket in refused if bucket <= at_us)})
    lost = any(one.bucket_us is None for one in answer.rows.refused)  # a row without a time may belong anywhere
    running = floor_us(at_us, width_us)
    spans: list[Interval]
    if lost:
        spans = [(bucket, bucket + width_us) for bucket in present]
    elif present and present[-1] >= from_us:
        spans = [(max(from_us, present[0]), present[-1] + width_us)]
    elif all(bucket == from_us - width_us for bucket in (*answer.rows.good, *refused)):
        # Nothing, or only the candle before: some exchanges continue after the candle that was requested as the start.
        spans = [(from_us, min(window_end, floor_us(at_us - QUIET_US, width_us)))]
    else:
        spans = []  # candles of another time do not answer this request
    spans = without(common(spans, [(from_us, running + width_us)]), ((b, b + width_us) for b in refused))
    rows = {b: values for b, values in good.items() if values is not None and holds(spans, b)}
    return Look(at_us, spans, rows)


def begins_with(one: Answer, limit: int, other: Answer, from_us: int, width_us: int) -> int | None:
    """Return the first candle at or after `from_us`, if two answers with different limits prove that none is earlier.

    An exchange that returns the first candles from a time on starts with the same one for every limit; one that returns
    the newest of something does not. Nor do as few as `limit` candles, which `one` asked for, reach to the present.
    """
    first, rest = sorted(one.rows.good), sorted(other.rows.good)
    if one.rows.refused or not first or not rest or first[0] != rest[0] or len(first) > limit:
        return None
    return first[0] if from_us < first[0] and first[-1] < floor_us(one.at_us, width_us) - width_us else None


def ends_with(one: Answer, limit: int, other: Answer) -> bool:
    """Return whether two answers with different limits prove that no candle follows the last one of `other`.

    An exchange that returns the newest candles before the end of a window ends with the same one for every limit; one
    that returns the first of something, or always the same, does not, or returns more than the `limit` of `one`.
    """
    few, many = one.rows, other.rows
    if few.refused or many.refused or not few.good or not many.good:
        return False
    return len(few.good) <= limit and max(few.good) == max(many.good)


@dataclass
class Memory:
    """Looks that are not final yet. Kept in memory only: a restart costs another look."""

    width_us: int
    settle_us: int
    spans: list[Interval] = field(default_factory=list)
    rows: dict[int, Values] = field(default_factory=dict)

    def settled_us(self, at_us: int) -> int:
        """Return the end of the last candle that a look at this time can make final."""
        return floor_us(at_us - self.settle_us, self.width_us)

    def add(self, look: Look) -> list[Interval]:
        """Add a look; returns the intervals that it makes final, with the look's candles. Open candles are ignored."""
        closed = common(look.spans, [(0, floor_us(look.at_us, self.width_us))])
        both = common(self.spans, common(closed, [(0, self.settled_us(look.at_us))]))
        differs = [
            (bucket, bucket + self.width_us)
            for bucket in {*self.rows, *look.rows}
            if holds(both, bucket) and not same(self.rows.get(bucket), look.rows.get(bucket))
        ]
        final = without(both, differs)
        kept = without(self.spans, closed)
        self.rows = {b: values for b, values in self.rows.items() if holds(kept, b)} | look.rows
        self.spans = merged(*kept, *closed)
        self.forget(final)
        return final

    def forget(self, spans: Iterable[Interval]) -> None:
        """Forget intervals that are final, or no longer wanted."""
        self.spans = without(self.spans, spans)
        self.rows = {b: values for b, values in self.rows.items() if holds(self.spans, b)}

    def agreeing(self, coarse: Look, coarse_us: int) -> tuple[list[Interval], int]:
        """Return the intervals whose candles add up to a coarser answer, and the number of coarse candles that differ.

        An hour with the same open, high, low, close and volume as its sixty minutes is a second look at all of them,
        for one call instead of many.
        """
        agreed: list[Interval] = []
        contradicted = 0
        whole = common(coarse.spans, [(0, self.settled_us(coarse.at_us))])
        by_hour: dict[int, list[int]] = {}
        for bucket in self.rows:
            by_hour.setdefault(floor_us(bucket, coarse_us), []).append(bucket)
        for a, b in common(self.spans, whole):
            begin = floor_us(a + coarse_us - 1, coarse_us)
            while begin + coarse_us <= b:
                made = _merged_candle(self.rows, sorted(by_hour.get(begin, [])))
                if same(made, coarse.rows.get(begin)):
                    agreed.append((begin, begin + coarse_us))
                else:
                    contradicted += 1
                begin += coarse_us
        return merged(*agreed), contradicted


def _merged_candle(rows: Mapping[int, Values], buckets: list[int]) -> Values | None:
    """Merge these candles into one."""
    if not buckets:
        return None
    parts = [rows[bucket] for bucket in buckets]
    high, low = max(Decimal(part[1]) for part in parts), min(Decimal(part[2]) for part in parts)
    volume = sum((Decimal(part[4]) for part in parts), Decimal(0))
    return parts[0][0], str(high), str(low), parts[-1][3], format(volume, "f")
