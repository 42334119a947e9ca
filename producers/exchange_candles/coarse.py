"""Coarser candles of the same exchange, hours for minutes, as the second look at many at once. Times in µs."""

from __future__ import annotations

import structlog

from pipeline.core import events
from pipeline.core.errors import Refused, Unavailable
from producers.exchange_candles import pages
from producers.exchange_candles.exchange import Exchange
from producers.exchange_candles.looks import Look, look_of


class Coarse:
    """The coarser candles of one walk. `width_us`: None if they are of no use."""

    def __init__(self, exchange: Exchange, product_id: str, log: structlog.typing.FilteringBoundLogger) -> None:
        self._exchange, self._product, self._log = exchange, product_id, log
        self.width_us: int | None = None
        self._end = 0
        self._look: Look | None = None
        self.calls = 0

    def use(self, width_us: int) -> None:
        """Use candles that consist of whole candles of this width, if the exchange offers any."""
        self.width_us = pages.coarse_us(width_us, self._exchange.granularities())

    def look(self, since: int, until: int) -> Look | None:
        """Return the look from `since` on, for up to a page; None if there is no answer."""
        if self.width_us is None or since < self._end:
            return self._look
        limit = min(self._exchange.page_size, -(-(until - since) // self.width_us) + 1)
        try:
            answer = self._exchange.candles(self._product, self.width_us // 1_000_000, since, limit)
        except (Unavailable, Refused) as error:
            self._log.warning(events.REQUEST_FAILED, error=str(error), text="requesting every candle twice instead")
            self.width_us = None
            return None
        self.calls += 1
        self._look = look_of(answer, since, limit, self.width_us)
        self._end = since + limit * self.width_us
        return self._look
