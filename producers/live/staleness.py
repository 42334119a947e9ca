"""How long a product may be silent, and what is due when it is silent for longer.

Heartbeats do not count: a connection can be alive while the subscription of one product is dead. What is usual is
learned from the product itself. A silence beyond it is a question to REST, not yet an alarm.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

# A silence of this many mean intervals is unusual. With trades at random moments one interval in 22,000 is longer.
UNUSUAL = 10.0
LONGEST_S = 600.0  # even the quietest product is looked after this often
# While the stream of a product is dead, REST is what says that trades are missing.
STALE_ASK_S = 30.0
WITHOUT_EXPERIENCE_S = 60.0
# After an answer from REST, the stream has this long to show the trade that REST already has.
IN_FLIGHT_S = 2.0


GENTLE_STEPS = 2


class Due(Enum):
    """What the connection should do for a product now."""

    NOTHING = "nothing"
    ASK = "ask REST for the newest trade"
    RESUBSCRIBE = "resubscribe"
    RECONNECT = "reconnect"


@dataclass
class ProductClock:
    """One product's data on one venue. Times are monotonic seconds; ids are the venue's."""

    shortest_s: float
    now: float  # of its making
    longest_s: float = LONGEST_S
    last_id: int = 0
    stale: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        self._data_at = self.now
        self._mean_s: float | None = None
        self._patience = 1.0  # grows while REST says that nothing happened
        self._asked = False
        self._moved_to: int | None = None
        self._judge_at = 0.0
        self._steps = 0
        self._act_at = 0.0

    def usual_s(self) -> float:
        """The longest silence that needs no question."""
        if self._mean_s is None:  # not even the snapshot that comes first: that is unusual at once
            usual = WITHOUT_EXPERIENCE_S if self.last_id else self.shortest_s
        else:
            usual = UNUSUAL * self._mean_s
        longest_s = min(self.longest_s, max(self.shortest_s, STALE_ASK_S)) if self.stale else self.longest_s
        return min(longest_s, max(self.shortest_s, usual) * self._patience)

    def learn(self, mean_s: float) -> None:
        """What a snapshot says about the usual interval; used until there is experience."""
        if self._mean_s is None:
            self._mean_s = mean_s

    def data(self, newest_id: int, now: float, *, snapshot: bool = False) -> bool:
        """Data came. Returns True when it ends a silence that was called stale."""
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
        """A new connection: its silence starts now. What is stale stays so until data comes."""
        self._data_at, self._moved_to, self._asked = now, None, False

    def due(self, now: float) -> Due:
        """What should be done now; it is then taken as done."""
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
            # The other products of the connection pay for each attempt.
            self._act_at = now + min(LONGEST_S, self.shortest_s * 2.0**self._steps)
            return Due.RESUBSCRIBE if self._steps <= GENTLE_STEPS else Due.RECONNECT
        if self._asked or now - self._data_at < self.usual_s():
            return Due.NOTHING
        self._asked = True
        return Due.ASK

    def ask_now(self) -> bool:
        """There is a question that cannot wait for a silence; False while one is asked already."""
        asked, self._asked = self._asked, True
        return not asked

    def answered(self, newest_id: int | None, now: float) -> bool:
        """REST said which trade is its newest (None: it said nothing). True when the product is now known as quiet."""
        self._asked = False
        if newest_id is None:
            self._data_at = now  # ask again after the same time
            return False
        if newest_id > self.last_id:
            self._moved_to, self._judge_at = newest_id, now + IN_FLIGHT_S
            return False
        self._data_at = now
        self._patience *= 2.0
        self.stale = False
        first, self.quiet = not self.quiet, True
        return first
