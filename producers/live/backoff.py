"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random

FIRST_S = 1.0
CAP_S = 60.0
CAP_WITH_GAPS_S = 30.0  # while trades are being missed
# A venue bans who connects too often (Kraken: about 150 times in 10 minutes), so that a connection which gives data
# and dies again and again must not reset the delay.
HEALTHY_S = 30.0


class Backoff:
    """1 s, doubled up to the cap, half of it random; reset by a connection that was healthy for a while."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()
        self._delay = FIRST_S

    def next(self, *, gaps_open: bool) -> float:
        """Seconds to wait now."""
        delay = min(self._delay, CAP_WITH_GAPS_S if gaps_open else CAP_S)
        self._delay = min(CAP_S, self._delay * 2)
        return delay * self._chance.uniform(0.5, 1.0)

    def lived(self, data_for_s: float) -> None:
        """A connection gave data over this time before it ended."""
        if data_for_s >= HEALTHY_S:
            self._delay = FIRST_S
