"""Reconnect delays."""

from __future__ import annotations

import random

FIRST_S = 1.0
CAP_S = 60.0
CAP_WITH_GAPS_S = 30.0  # while trades are being missed
# Venues ban clients that connect too often (Kraken: about 150 times in 10 minutes), so a connection that gives data but
# soon dies must not reset the delay.
HEALTHY_S = 30.0


class Backoff:
    """Capped exponential backoff from 1 s, with half of it jitter; reset by a connection that stayed healthy."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()
        self._delay = FIRST_S

    def next(self, *, gaps_open: bool) -> float:
        """Return the seconds to wait before the next attempt, and double the delay after it."""
        delay = min(self._delay, CAP_WITH_GAPS_S if gaps_open else CAP_S)
        self._delay = min(CAP_S, self._delay * 2)
        return delay * self._chance.uniform(0.5, 1.0)

    def lived(self, data_for_s: float) -> None:
        """Report a connection that has ended, and for how long it gave data."""
        if data_for_s >= HEALTHY_S:
            self._delay = FIRST_S
