"""Decide which candles of a stream are final, for a venue that pushes the running candle repeatedly and never marks
it."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from schemas.records import CandleRow
from venues.events import CandleFrame

# A candle may still be corrected shortly after its end, and without trades no later one follows.
SETTLED_US = 10_000_000


class CandleBook:
    """The running candle of each product on one connection; all are `length_s` seconds long."""

    def __init__(self, length_s: int) -> None:
        self._length_s = length_s
        self._running: dict[str, CandleRow] = {}

    def forget(self) -> None:
        """Forget the running candles. Call it for a new connection, whose snapshot has their current state."""
        self._running.clear()

    def take(self, frame: CandleFrame) -> CandleFrame | None:
        """Return the frame with `final` set, preceded by the candle that just ended; None when nothing changed."""
        running = self._running.get(frame.product_id)
        newest = max(row.bucket_us for row in frame.rows)
        if running is not None:
            if newest == running.bucket_us and frame.rows == [running]:
                return None
            newest = max(newest, running.bucket_us)
        given = {row.bucket_us for row in frame.rows}
        ended = [running] if running and running.bucket_us < newest and running.bucket_us not in given else []
        for row in frame.rows:
            if row.bucket_us == newest:
                self._running[frame.product_id] = row
        return replace(frame, rows=[_with_final(row, row.bucket_us < newest) for row in [*ended, *frame.rows]])

    def settled(self, now_us: int) -> list[CandleFrame]:
        """Return as final the candles that ended by the venue's clock although no later one has followed."""
        begun_us = now_us - SETTLED_US - self._length_s * 1_000_000
        over = [product for product, row in self._running.items() if row.bucket_us <= begun_us]
        return [CandleFrame(one, now_us, self._length_s, [_with_final(self._running.pop(one), True)]) for one in over]


def _with_final(row: CandleRow, final: bool) -> CandleRow:
    return msgspec.structs.replace(row, final=final)
