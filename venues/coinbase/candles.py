"""Decide which of Coinbase's five-minute candles are final: the venue pushes the running one every second and never
marks it."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from schemas.records import CandleRow
from venues.coinbase.parse import CANDLE_S
from venues.events import CandleFrame

_LENGTH_US = CANDLE_S * 1_000_000
# A candle may still be corrected shortly after its end, and where nobody trades no later one follows.
SETTLED_US = 10_000_000


class CandleBook:
    """The running candle of each product on one connection."""

    def __init__(self) -> None:
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
        over = [p for p, row in self._running.items() if row.bucket_us + _LENGTH_US + SETTLED_US <= now_us]
        return [CandleFrame(p, now_us, CANDLE_S, [_with_final(self._running.pop(p), True)]) for p in over]


def _with_final(row: CandleRow, final: bool) -> CandleRow:
    return msgspec.structs.replace(row, final=final)
