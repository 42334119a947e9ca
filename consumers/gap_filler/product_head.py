"""The newest trade of one product, according to its two witnesses: the live stream and REST."""

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
# REST that was seen to be behind is assumed to be as far behind for this long. What the stream showed is remembered for
# as long, in steps of this many seconds.
LAG_KEPT_S, STEP_S = 600.0, 10.0
NEVER = float("-inf")


@dataclass
class ProductHead:
    """The head of one product. Times are seconds by `consumers.gap_filler.heads.seconds`; None: never."""

    from_id: int
    newest_id: int
    seen: float
    witness: str  # stream, rest: who showed `newest_id`
    checked: float | None = None  # the last moment for which a witness confirmed `newest_id` as the newest
    settled_id: int = -1
    proven: float | None = None  # the time at which `settled_id` is known to have been the newest
    asset_class: str = "crypto"
    stream_at: float | None = None  # the last moment for which a producer reported
    reported_at: float | None = None  # when a producer last reported, for whichever moment
    asked_at: float | None = None
    clock_offset_ms: int | None = None  # measured since it was last written
    real: bool = True  # False: known only from a message; not believed until REST confirms it
    _began: int = field(init=False)  # `from_id` as it was first known
    _young: deque[tuple[float, int, float]] = field(default_factory=deque)  # when it was reported, id, for which moment
    _shown: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=int(LAG_KEPT_S / STEP_S)))
    _lag: tuple[float, float] = (0.0, 0.0)  # how far behind REST was, and until when this is remembered
    _doubted: int | None = None  # the last answer of REST that was far above all others
    _below: int = 0  # answers of REST below `newest_id` since it was last confirmed

    def __post_init__(self) -> None:
        self._began = self.from_id

    def report(
        self, newest_id: int, witness: str, now: float, at: float | None = None, others_lag_s: float = 0.0
    ) -> None:
        """Record the newest id that a witness ("stream" or "rest") reports.

        `at`: the moment for which it reports it, not later than now; `NEVER`: it only proves that there is such an id.
        For REST the moment is earlier if REST was seen to be behind: for this product, or by `others_lag_s` for others.
        """
        at = now if at is None else min(at, now)
        if witness == "rest":
            if self._doubts(newest_id):
                return
            self._measure_lag(newest_id, at)
            at -= max(self.lag_s(now), others_lag_s)
        if newest_id > self.newest_id:
            self.newest_id, self.seen, self.witness = newest_id, now, witness
            self.checked = None if at == NEVER else at
            self._young.append((now, newest_id, at))
            self._below = 0
            if witness == "stream" and (not self._shown or now - self._shown[-1][0] >= STEP_S):
                self._shown.append((now, newest_id))
        elif witness == "rest":
            if newest_id == self.newest_id:
                self.checked = at if self.checked is None else max(self.checked, at)
                self._young.append((now, newest_id, at))
                self._below = 0
            else:
                self._refute(newest_id, now)
        if witness == "stream":
            self.reported_at = now
            if at != NEVER:
                self.stream_at = at

    def lag_s(self, now: float) -> float:
        """Return how far behind REST may be, as far as is known."""
        lag_s, until = self._lag
        return lag_s if now < until else 0.0

    def _measure_lag(self, newest_id: int, at: float) -> None:
        """Measure how far REST was behind at `at`: at least by the age of a known id that its answer lacks, at most by
        the age of an id that the stream had shown and that it has."""
        newest = (self.seen, self.newest_id)
        streamed = [*self._shown, newest] if self.witness == "stream" else self._shown
        at_most_s = min((at - since for since, one in streamed if one <= newest_id), default=LAG_KEPT_S)
        at_least_s = max((at - since for since, one in (*self._shown, newest) if one > newest_id), default=0.0)
        self._lag = (min(self.lag_s(at), max(0.0, at_most_s)), self._lag[1])
        if at_least_s > self._lag[0]:
            self._lag = (at_least_s, at + LAG_KEPT_S)

    def _doubts(self, newest_id: int) -> bool:
        """Return whether this is the first REST answer far above all others: a single one may be wrong."""
        before, self._doubted = self._doubted, None
        if newest_id <= self.newest_id + ID_JUMP or (before is not None and abs(newest_id - before) <= ID_JUMP):
            return False
        self._doubted = newest_id
        return True

    def _refute(self, newest_id: int, now: float) -> None:
        """Count a REST answer below `newest_id`. A single one may be behind and proves nothing; several of them, while
        nobody confirms `newest_id` for minutes, prove it wrong, whoever reported it."""
        self._below += 1
        shown = self.seen if self.checked is None else self.checked
        if self._below >= REFUTED_BY and now - shown > REFUTED_AFTER_S:
            self.newest_id, self.seen, self.witness, self.checked = newest_id, now, "rest", now
            self.settled_id = min(self.settled_id, newest_id)
            self._young.clear()
            self._shown.clear()
            self._lag = (0.0, 0.0)
            self._below = 0

    def stream_began(self, from_id: int, newest_id: int) -> None:
        """Record the first id of a stream, whose first trades may never have been stored.

        Ignored unless the stream agrees with what is known, both in its newest id and in where it began: if the venue
        restarts its numbering, or a head is wrong, all ids from there on would count as missing.
        """
        if abs(newest_id - self.newest_id) <= ID_JUMP and from_id >= self._began - ID_JUMP:
            self.from_id = min(self.from_id, from_id)

    def settle(self, now: float) -> None:
        """Advance `settled_id` and `proven` to what was seen at least `SETTLE_S` ago.

        Only then do absent ids count as missing, so completeness can only be claimed for that time: after an hour
        without a witness, the first answer reveals ids that have been missing for an hour.
        """
        while self._young and now - self._young[0][0] >= SETTLE_S:
            _, settled_id, at = self._young.popleft()
            if at != NEVER:
                self.proven = at if self.proven is None else max(self.proven, at)
            self.settled_id = max(self.settled_id, settled_id)

    def forget(self) -> None:
        """Discard what was proven until now: the clock has jumped."""
        self.proven = None
        self._young.clear()

    def take_clock_offset(self) -> int | None:
        """Return the clock offset in ms if it was measured since the last call, otherwise None."""
        offset_ms, self.clock_offset_ms = self.clock_offset_ms, None
        return offset_ms

    def due(self, now: float, ask_every_s: float) -> bool:
        """Return whether to ask REST now. `ask_every_s`: pause between two requests while the stream is quiet."""
        asked_s = float("inf") if self.asked_at is None else now - self.asked_at
        quiet = self.stream_at is None or now - self.stream_at >= QUIET_S
        behind = self.lag_s(now) > QUIET_S  # to notice when it has caught up
        return asked_s >= (ask_every_s if quiet or behind else ASK_ANYWAY_S)
