"""Staleness: how long a product may be silent, and what to do when it is silent for longer.

Heartbeats do not count as data: a connection can be alive while the subscription of one product is dead. The usual
interval is learned per product. A longer silence leads to a REST request, not yet to an alarm.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

# A silence of this many mean intervals is unusual: with trades at random times one interval in 22,000 is longer.
UNUSUAL = 10.0
LONGEST_S = 600.0  # even the quietest product is checked this often
# While a product's stream is dead, only REST shows that trades are missing.
STALE_ASK_S = 30.0
WITHOUT_EXPERIENCE_S = 60.0
# Time for the stream to deliver a trade that REST already has.
IN_FLIGHT_S = 2.0
# Resubscriptions before a reconnect is suggested.
GENTLE_STEPS = 2


class Due(Enum):
    """What the connection should do for a product."""

    NOTHING = "nothing"
    ASK = "ask REST for the newest trade"
    RESUBSCRIBE = "resubscribe"
    RECONNECT = "reconnect"


@dataclass
class ProductClock:
    """Staleness of one product on one venue. Times are monotonic seconds, ids are trade ids.

    `stale`: the market moved and the stream did not. `quiet`: REST confirmed that there was nothing to stream.
    """

    shortest_s: float
    now: float  # when it was created
    longest_s: float = LONGEST_S
    last_id: int = 0
    stale: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        self._data_at = self.now
        self._mean_s: float | None = None
        self._patience = 1.0  # grows while REST has no newer trade
        self._asked = False  # a REST request is running
        self._moved_to: int | None = None  # the newest id by REST, until `_judge_at` shows whether the stream has it
        self._judge_at = 0.0
        self._steps = 0  # resubscriptions and reconnects since the last data
        self._act_at = 0.0  # earliest time of the next one

    def usual_s(self) -> float:
        """Return the longest silence, in seconds, that needs no check."""
        if self._mean_s is None:  # not even the initial snapshot arrived: check early
            usual = WITHOUT_EXPERIENCE_S if self.last_id else self.shortest_s
        else:
            usual = UNUSUAL * self._mean_s
        longest_s = min(self.longest_s, max(self.shortest_s, STALE_ASK_S)) if self.stale else self.longest_s
        return min(longest_s, max(self.shortest_s, usual) * self._patience)

    def learn(self, mean_s: float) -> None:
        """Use a snapshot's mean interval until there is live data."""
        if self._mean_s is None:
            self._mean_s = mean_s

    def data(self, newest_id: int, now: float, *, snapshot: bool = False) -> bool:
        """Record data. Returns True if the product was stale until now."""
        if not snapshot:
            interval = now - self._data_at
            self._mean_s = interval if self._mean_s is None else 0.95 * self._mean_s + 0.05 * interval
        self.last_id = max(self.last_id, newest_id)
        self._data_at = now
        self._patience, self._steps, self._moved_to, self.quiet = 1.0, 0, None, False
        self._act_at = 0.0
        recovered, self.stale = self.stale, False
        return recovered

    def opened(self, now: float) -> None:
        """Measure silence from now on, for a new connection. A stale product stays stale until data arrives."""
        self._data_at, self._moved_to, self._asked = now, None, False

    def due(self, now: float) -> Due:
        """Return what to do now. The caller must do it: it then counts as done."""
        if self._moved_to is not None:
            if now < self._judge_at:
                return Due.NOTHING
            moved_to, self._moved_to = self._moved_to, None
            if moved_to <= self.last_id:
                return Due.NOTHING
            self.stale = True
            self._data_at = now
            if now < self._act_at:
                return Due.NOTHING
            self._steps += 1
            # Each attempt disturbs the other products of the connection.
            self._act_at = now + min(LONGEST_S, self.shortest_s * 2.0**self._steps)
            return Due.RESUBSCRIBE if self._steps <= GENTLE_STEPS else Due.RECONNECT
        if self._asked or now - self._data_at < self.usual_s():
            return Due.NOTHING
        self._asked = True
        return Due.ASK

    def ask_now(self) -> bool:
        """Start a REST request regardless of silence; returns False while one is already running."""
        asked, self._asked = self._asked, True
        return not asked

    def answered(self, newest_id: int | None, now: float) -> bool:
        """Record the newest id by REST, None if the request failed. Returns True if the product has just become
        quiet."""
        self._asked = False
        if newest_id is None:
            self._data_at = now  # check again after the same time
            return False
        if newest_id > self.last_id:
            self._moved_to, self._judge_at = newest_id, now + IN_FLIGHT_S
            return False
        self._data_at = now
        self._patience *= 2.0
        self.stale = False
        first, self.quiet = not self.quiet, True
        return first
