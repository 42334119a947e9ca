"""What the tape knows and the tables do not, for the lie detector: ids that should be stored by now and are not."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Mapping

import psycopg

from judge.old_days import KEY as OLD
from judge.old_days import OldDays
from pipeline.database import query
from pipeline.database.connection import Connection
from simulator.testing import Simulator

Key = tuple[str, str]
# A database that does not answer may have taken a few rows more after the last look at it.
LAST_ROWS_S = 5.0
_STORED = """
    SELECT t.trade_id FROM trades t JOIN instruments i USING (instrument_id)
    WHERE i.venue = %s AND i.product_id = %s AND t.trade_id BETWEEN %s AND %s
"""


class Truth:
    """When each of its ids came onto the tape, and which of those that are `older_s` old are not stored: of live
    products in the table `trades`, of the old days in table or files.

    The ledger is not asked: it is what is being checked. `first`: ids before were not asked for. Thread-safe.
    """

    def __init__(
        self,
        simulator: Simulator,
        database_url: str,
        first: Mapping[Key, int],
        older_s: float,
        old: OldDays | None = None,
    ) -> None:
        self._simulator, self._url, self._older_s = simulator, database_url, older_s
        self._first = dict(first)
        self._old = old
        self._began_s = time.monotonic()
        self._numbering = {key: simulator.numbering(*key) for key in first}
        self._seen_s: list[float] = []  # of each sample
        self._newest: list[dict[Key, int]] = []
        self.holes: dict[Key, list[tuple[int, int]]] = {}
        self._stored_to: dict[Key, int] = {}  # everything up to here was once found stored
        self._looked_s: float | None = None  # when the database last answered
        self._own = threading.local()
        self._lock = threading.Lock()

    @property
    def products(self) -> list[Key]:
        return sorted([*self._first, *([OLD] if self._old else [])])

    def sample(self) -> None:
        """Record the newest ids, once a second: an id counts as published at the first sample that has it."""
        newest, holes = self._simulator.now(), self._simulator.holes()
        with self._lock:
            self._seen_s.append(time.monotonic())
            self._newest.append(newest)
            self.holes = holes

    def old_id(self, key: Key, moment_s: float) -> int:
        """Return the newest id that was `older_s` old at that moment, or one before the first if there is none."""
        return self._published(key, moment_s - self._older_s)

    def _published(self, key: Key, moment_s: float) -> int:
        at = bisect.bisect_right(self._seen_s, moment_s) - 1
        return self._newest[at][key] if at >= 0 else self._first[key] - 1

    def forget(self) -> None:
        """Forget what was stored: the database was restored to an earlier state."""
        with self._lock:
            self._stored_to.clear()

    def unstored(self, key: Key, moment_s: float) -> list[int]:
        """Return ids that were old at `moment_s` and are stored nowhere now, hence not then either."""
        if self._old is not None and key == OLD:
            return self._unstored_old(self._old, moment_s)
        with self._lock:
            low, high = max(self._first[key], self._stored_to.get(key, 0) + 1), self.old_id(key, moment_s)
        if low > high:
            return []
        try:
            conn = self._connection()
        except psycopg.OperationalError:
            # Nothing can be stored now, so what was published after its last answer is certainly not stored.
            with self._lock:
                if self._looked_s is None:
                    return []
                low = max(low, self._published(key, self._looked_s + LAST_ROWS_S) + 1)
                return [i for i in range(low, high + 1) if not self.skipped(key, i)]
        try:
            of = self._numbering[key]
            ids = query.scalars(conn, _STORED, (*key, of.trade_id(low), of.trade_id(high)))
            stored = {of.tape_id(number) for number in ids}
        except psycopg.Error:
            conn.close()
            return []
        with self._lock:
            self._looked_s = time.monotonic()
            missing = [i for i in range(low, high + 1) if i not in stored and not self.skipped(key, i)]
            self._stored_to[key] = missing[0] - 1 if missing else high
        return missing

    def _unstored_old(self, old: OldDays, moment_s: float) -> list[int]:
        """Return the unstored ids of the old days, which were requested before the run; none if the database does not
        answer."""
        if moment_s < self._began_s + self._older_s:
            return []
        try:
            return old.unstored(self._connection())
        except psycopg.Error:
            self._own.conn = None
            return []

    def skipped(self, key: Key, trade_id: int) -> bool:
        """Whether the venue itself skipped this id."""
        return any(first <= trade_id <= last for first, last in self.holes.get(key, ()))

    def falsely_explained(self, key: Key, first_id: int, last_id: int) -> int | None:
        """Return the first explained id that is on the tape now or will be; None if the venue has none of them."""
        with self._lock:
            at = max(1, first_id)
            for low, high in sorted(self.holes.get(key, ())):
                at = high + 1 if low <= at <= high else at
            return at if at <= last_id else None

    def _connection(self) -> Connection:
        """Return this thread's connection: a frozen database blocks its caller."""
        conn: Connection | None = getattr(self._own, "conn", None)
        if conn is None or conn.closed:
            conn = self._own.conn = connect(self._url)
        return conn


def connect(url: str) -> Connection:
    """Connect for polling every second, with short time-outs."""
    return psycopg.connect(
        url, autocommit=True, connect_timeout=3, options="-c statement_timeout=5000", application_name="judge"
    )
