"""The refused rows of one walk: where they are, and how they are reported. Times in µs."""

from __future__ import annotations

from pipeline.core.times import us_to_iso
from producers.exchange_candles.aside import SHOWN
from producers.exchange_candles.intervals import Interval, holds, merged
from producers.exchange_candles.rows import Refused, floor_us


class BadRows:
    """The refused rows inside the walk's interval; rows without a valid time may belong to any candle."""

    def __init__(self, width_us: int) -> None:
        self._width = width_us
        self._rows: dict[tuple[int | None, str], str] = {}

    def add(self, row: Refused, span: Interval) -> None:
        if row.bucket_us is None or span[0] <= row.bucket_us < span[1]:
            self._rows[row.bucket_us, row.reason] = row.detail

    def spans(self) -> list[Interval]:
        """Return the intervals of the candles that the rows stand for."""
        buckets = {floor_us(bucket, self._width) for bucket, _ in self._rows if bucket is not None}
        return [(bucket, bucket + self._width) for bucket in buckets]

    def why(self, span: Interval) -> str:
        """Return what is wrong in an interval; empty if nothing is."""
        found = dict.fromkeys(text for (at, _), text in self._rows.items() if at is None or span[0] <= at < span[1])
        return "refused rows, " + "; ".join(list(found)[:SHOWN]) if found else ""

    def left(self, aside: list[Interval], final: list[Interval]) -> list[str]:
        """Return the rows that are still invalid and not part of an interval set aside: a few, and the number of
        others."""
        aside = merged(*aside)
        left = [
            f"{'a row' if at is None else us_to_iso(at)} ({reason}: {detail})"
            for (at, reason), detail in self._rows.items()
            if at is None or (not holds(aside, at) and (at != floor_us(at, self._width) or not holds(final, at)))
        ]
        return [*left[:SHOWN], *([f"and {len(left) - SHOWN} more rows"] if len(left) > SHOWN else [])]
