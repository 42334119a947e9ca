"""Delays of live trades after the venue's own time, counted by instrument, day and step, for certificates."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from consumers.trade_block import TradeBlock
from pipeline.core.products import ORIGINS
from pipeline.core.times import DAY_US, from_us
from pipeline.database.copy import Ints
from schemas.trade_columns import Flags

UP_TO_MS = np.unique(np.concatenate([[0.0], np.ceil(2.0 ** (np.arange(8 * 30) / 8))])).astype(np.int64)
"""Upper bounds of the steps: every ms up to 12 ms, then an eighth of a doubling (9 %) apart, up to 11 days."""
_STEPS: list[int] = UP_TO_MS.tolist()
_LIVE = ORIGINS.index("live")
_DAYS = 1 << 20  # more than there are: product, day and step become one number


@dataclass(frozen=True)
class LiveDelays:
    """Counts of one batch: `names` are venue and product, `day` is in days since 1970."""

    names: list[tuple[str, str]]
    day: list[int]
    up_to_ms: list[int]
    trades: list[int]

    def values(self, ids: dict[tuple[str, str], int]) -> dict[str, Any]:
        """Return parameters of sql/trades_store.sql, which adds them to the stored counts."""
        return {
            "delay_of": [ids[name] for name in self.names],
            "delay_day": [(from_us(0) + timedelta(days=day)).date() for day in self.day],
            "delay_up_to_ms": self.up_to_ms,
            "delay_trades": self.trades,
        }


def step_of(delay_ms: float) -> int:
    """Return the upper bound, in ms, of the step that a delay falls into."""
    return _STEPS[min(bisect_left(_STEPS, delay_ms), len(_STEPS) - 1)]


def live_delays(parts: TradeBlock, whose: Ints, good: Flags) -> LiveDelays:
    """Count the valid trades of live messages. `whose`: the part of each trade; `good`: which trades are valid."""
    rows = np.flatnonzero(good & (parts.origin[whose] == _LIVE))
    if not len(rows):
        return LiveDelays([], [], [], [])
    part, at_us = whose[rows], parts.trades.timestamp_us[rows]
    step = np.minimum(np.searchsorted(UP_TO_MS, (parts.received_at_us[part] - at_us) / 1000), len(UP_TO_MS) - 1)
    keys = (parts.name[part] * _DAYS + at_us // DAY_US) * len(UP_TO_MS) + step
    found, counts = np.unique(keys, return_counts=True)
    product, day = np.divmod(found // len(UP_TO_MS), _DAYS)
    up_to_ms = UP_TO_MS[found % len(UP_TO_MS)]
    names = [parts.names[one][:2] for one in product]
    return LiveDelays(names, day.tolist(), up_to_ms.tolist(), counts.tolist())
