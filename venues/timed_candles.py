"""Candles of a stream whose frames carry the venue's time, which decides which candles are final."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from msgspec import structs

from pipeline.core.errors import BadData
from pipeline.core.runtime import now_us
from venues.events import BadElements, CandleFrame, VenueEvent
from venues.running_candles import CandleBook
from venues.venue_clock import VenueClock

# A frame's time, and the start of a candle, may be this far ahead of what the frames before say the venue's time is.
AHEAD_US = 5_000_000


class TimedCandles:
    """A `CandleBook`, and the venue's time that drives it.

    A single frame with a wrong time would finalize running candles and outrank every later correction of them. So its
    time is compared with that of other seconds' frames, and not with our clock, which may itself be wrong.
    """

    def __init__(self, length_s: int) -> None:
        self._book = CandleBook(length_s)
        self._clock = VenueClock()

    def forget(self) -> None:
        """See `CandleBook`. The estimate of the venue's clock is kept."""
        self._book.forget()

    def read(self, frames: Iterable[CandleFrame], at_us: int | None) -> list[VenueEvent]:
        """Return what to publish after a frame. `frames`: its candles, if any; `at_us`: its time."""
        latest_us = self._latest_us(at_us)
        believed = at_us is not None and latest_us is not None and at_us <= latest_us
        events: list[VenueEvent] = []
        for frame in frames:
            events += self._candles_of(frame, at_us, latest_us, believed)
        if believed and at_us is not None:
            events += self._book.settled(at_us)
        return events

    def _latest_us(self, at_us: int | None) -> int | None:
        """Return the latest believable time for a frame with this time; None in the first seconds."""
        received_us = time.monotonic_ns() // 1000
        offset_us = self._clock.offset_us
        if at_us is not None:
            self._clock.seen(at_us, received_us)
        return None if offset_us is None else received_us + offset_us + AHEAD_US

    def _candles_of(
        self, frame: CandleFrame, at_us: int | None, latest_us: int | None, believed: bool
    ) -> list[VenueEvent]:
        ours_us = now_us() + AHEAD_US
        as_of_us = at_us if at_us is None or believed else min(at_us, ours_us)
        # All candles before one that has not begun would be final.
        begun_us = max(at_us or 0, ours_us) if latest_us is None else max(as_of_us or 0, latest_us)
        bad = BadElements()
        for row in frame.rows:
            if row.bucket_us > begun_us:
                bad.add(BadData("time", f"a candle of {frame.product_id} has not begun"), structs.asdict(row))
        rows = [row for row in frame.rows if row.bucket_us <= begun_us]
        taken = self._book.take(replace(frame, as_of_us=as_of_us, rows=rows)) if rows else None
        return [*bad.all(), *([taken] if taken else [])]
