"""The newest trade of one product, as its witnesses say it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from pipeline.core.products import ID_JUMP

# A trade is stored some 20 ms after its frame; one seen longer ago than this should be stored.
SETTLE_S = 10.0
# REST is asked if the stream has shown nothing new for this long.
QUIET_S = 10.0
# REST is also asked while the stream moves: an id that nobody has confirmed for ten minutes, while REST gave lower
# ones, is an error.
ASK_ANYWAY_S = 120.0
REFUTED_AFTER_S, REFUTED_BY = 600.0, 3


@dataclass
class ProductHead:
    """The head of one product. Times are those of `seconds`; `None`: never."""

    from_id: int
    newest_id: int
    seen: float
    witness: str
    checked: float | None = None  # when a witness last confirmed `newest_id` as the newest
    settled_id: int = -1
    proven: float | None = None  # the time at which `settled_id` is known to have been the newest
    asset_class: str = "crypto"
    stream_at: float | None = None  # when the stream last showed a new trade
    asked_at: float | None = None
    clock_offset_ms: int | None = None  # measured since it was last written
    real: bool = True  # False: known only from a message; not believed until REST confirms it
    _young: deque[tuple[float, int]] = field(default_factory=deque)
    _doubted: int | None = None  # the last answer of REST that was far above all others
    _below: int = 0  # answers of REST below `newest_id` since it was last confirmed

    def told(self, newest_id: int, witness: str, now: float) -> None:
        """Record a witness's newest id."""
        if witness == "rest" and self._doubts(newest_id):
            return
        if newest_id > self.newest_id:
            self.newest_id, self.seen, self.witness, self.checked = newest_id, now, witness, now
            self._young.append((now, newest_id))
            self._below = 0
        elif witness == "rest":
            if newest_id == self.newest_id:
                self.checked = now
                self._young.append((now, newest_id))
                self._below = 0
            else:
                self._refute(newest_id, now)
        if witness == "stream":
            self.stream_at = now

    def _doubts(self, newest_id: int) -> bool:
        """Whether this answer of REST is far above all others, and the first that is: a single one may be wrong."""
        before, self._doubted = self._doubted, None
        if newest_id <= self.newest_id + ID_JUMP or (before is not None and abs(newest_id - before) <= ID_JUMP):
            return False
        self._doubted = newest_id
        return True

    def _refute(self, newest_id: int, now: float) -> None:
        """Count an answer of REST below `newest_id`. One is behind what is known and proves nothing. Several, while for
        minutes nobody confirms that id, show that it was wrong, whoever showed it."""
        self._below += 1
        shown = self.seen if self.checked is None else self.checked
        if self._below >= REFUTED_BY and now - shown > REFUTED_AFTER_S:
            self.newest_id, self.seen, self.witness, self.checked = newest_id, now, "rest", now
            self.settled_id = min(self.settled_id, newest_id)
            self._young.clear()
            self._below = 0

    def began(self, from_id: int, newest_id: int) -> None:
        """Record where a stream with this newest id began: its first trades may never have been stored.

        Only of a stream that agrees with what is known. Where a venue numbers its trades anew, or a head is wrong, all
        ids from there on would be missing.
        """
        if abs(newest_id - self.newest_id) <= ID_JUMP:
            self.from_id = min(self.from_id, from_id)

    def settle(self, now: float) -> None:
        """Advance `settled_id` and `proven` to what was seen at least `SETTLE_S` ago.

        Only then do absent ids count as missing, so completeness can only be claimed for that time: after an hour
        without a witness, the first answer reveals ids that have been missing for an hour.
        """
        while self._young and now - self._young[0][0] >= SETTLE_S:
            self.proven, settled_id = self._young.popleft()
            self.settled_id = max(self.settled_id, settled_id)

    def forget(self) -> None:
        """Take nothing for proven that was before now."""
        self.proven = None
        self._young.clear()

    def take_clock_offset(self) -> int | None:
        """Measured since the last time that it was taken."""
        offset_ms, self.clock_offset_ms = self.clock_offset_ms, None
        return offset_ms

    def due(self, now: float, ask_every_s: float) -> bool:
        """Whether to ask REST now."""
        asked_s = float("inf") if self.asked_at is None else now - self.asked_at
        quiet = self.stream_at is None or now - self.stream_at >= QUIET_S
        return asked_s >= (ask_every_s if quiet else ASK_ANYWAY_S)
