"""The running candle of a chart: `pipeline.stream.running`, with the page's way to ask the database."""

from __future__ import annotations

from dashboard.store import Store
from pipeline.core.timeframes import Timeframe
from pipeline.stream.instruments import Instrument
from pipeline.stream.running import RunningCandles, Stored


class LiveCandles(RunningCandles):
    """Candles of one instrument and frame that are still moving, for one chart."""

    def __init__(self, store: Store, instrument: Instrument, timeframe: Timeframe) -> None:
        super().__init__(instrument, timeframe)
        self._store = store

    async def sync(self) -> list[int]:
        """Read candles and ledger; returns the starts of the known candles. Raises `Unavailable`."""
        asked = self.question()
        return self.answer(asked, await self._store.rows(Stored, asked.query, asked.values))
