"""The consensus of several exchanges, updated in the transaction that stores their candles.

The computation is one statement, `sql/consensus_store.sql`: it recomputes the consensus of the buckets in the temporary
table `touched_consensus` from what is stored, so the result does not depend on the order of arrival.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterable

from msgspec import structs

from pipeline.core import events
from pipeline.core.errors import BadData
from pipeline.core.log import get_logger
from pipeline.core.settings import DatabaseSettings, load
from pipeline.database import query
from pipeline.database.connection import Connection, connect_when_ready
from pipeline.database.sql import statement
from schemas import fields
from schemas.records import CandlesMessage, Quorum

# Every sweep covers the last day's trades, every 90th one all trades, because a back-fill may have added old ones.
SWEEP_EVERY_S = 20.0
ALL_EVERY = 90
ALL_DAYS = 36_500
# Unhealthy if no sweep has ended for this long: one over all days may take minutes.
WITHIN_S = 900.0
_LOCK = 0x636F6E73  # class of these advisory locks; an arbitrary constant
MOST_EXCHANGES = 63  # one bit each
_TOUCHED = """
    CREATE TEMP TABLE IF NOT EXISTS touched_consensus (
        consensus_id integer, bucket timestamptz, n bigint GENERATED ALWAYS AS IDENTITY
    ) ON COMMIT DELETE ROWS
"""
# A change of exchanges touches years of candles; each statement must stay far below the statement timeout of 2 min.
# Measured: 100,000 minutes of three exchanges take 5 s, on a busy machine 20 s; 3,000 with our own trades 3 s.
SLICE = 20_000
# Of one transaction of a sweep, which keeps the writer of candles waiting: a year of trades that were loaded late is
# 525,600 minutes, and the writer waits 30 s at most before it tries again.
SWEPT = 3_000


def check_quorum(quorum: Quorum) -> None:
    """Raise `BadData` for an invalid quorum."""
    fields.check("quorum", quorum)
    fields.check_ahead("quorum: as_of_us", quorum.as_of_us)
    exchanges, required = quorum.exchanges, quorum.required
    if not 1 <= len(exchanges) <= MOST_EXCHANGES or len(set(exchanges)) < len(exchanges) or required > len(exchanges):
        raise BadData("quorum", f"{required} of {len(exchanges)} exchanges")
    for exchange in exchanges:
        if problem := fields.EXCHANGE.problem(exchange):
            raise BadData("quorum", problem)


def prepare(conn: Connection) -> None:
    """Create the temporary table `touched_consensus`. Call it before the transaction."""
    conn.execute(_TOUCHED)


def lock_products(conn: Connection, products: Iterable[str]) -> None:
    """Lock products for this transaction: the topics of their exchanges may be read by different writers."""
    keys = sorted({zlib.crc32(product.encode()) - (1 << 31) for product in products})
    conn.execute("SELECT pg_advisory_xact_lock(%s, key) FROM unnest(%s::integer[]) AS key", (_LOCK, keys))


def store_quorums(conn: Connection, records: Iterable[CandlesMessage]) -> None:
    """Store the newest quorum of each product and granularity. The products must be locked."""
    newest: dict[tuple[str, int], Quorum] = {}
    for record in records:
        if quorum := record.quorum:
            key = (record.product_id, record.granularity_s)
            if key not in newest or _rank(quorum) > _rank(newest[key]):
                newest[key] = quorum
    for (product_id, granularity_s), quorum in sorted(newest.items(), key=lambda item: item[0]):
        values = {"product_id": product_id, "granularity_s": granularity_s} | structs.asdict(quorum)
        query = "SELECT exchanges, required FROM consensus_quorum WHERE product_id = %s AND granularity_s = %s"
        before = conn.execute(query, (product_id, granularity_s)).fetchone()
        changed = conn.execute(statement("consensus_quorum_store"), values).fetchone()
        if changed and before != (quorum.exchanges, quorum.required):
            conn.execute(statement("consensus_touch_all"), {"consensus_id": changed[0]})


def _rank(quorum: Quorum) -> tuple[bool, int]:
    return len(quorum.exchanges) > 1, quorum.as_of_us


def store(conn: Connection) -> int:
    """Update the consensus of all touched buckets, slice by slice; returns how many changed."""
    (bounds,) = conn.execute("SELECT coalesce(min(n), 0), coalesce(max(n), -1) FROM touched_consensus").fetchall()
    first, last = bounds
    changed = 0
    for begin in range(first, last + 1, SLICE):
        span = {"first": begin, "last": begin + SLICE - 1}
        changed += query.scalar(conn, statement("consensus_store"), span)
        conn.execute(statement("consensus_store_hours"), span)
    return changed


def sweep(conn: Connection, days: int) -> int:
    """Include our own trades of the last `days` that were stored after the consensus was made; returns how many candles
    changed."""
    prepare(conn)
    changed = 0
    for product_id in query.scalars(conn, "SELECT DISTINCT product_id FROM consensus_quorum ORDER BY 1"):
        with conn.cursor("traded", withhold=True) as found:
            found.execute(statement("consensus_traded"), {"product_id": product_id, "days": days})
            while some := found.fetchmany(SWEPT):
                with conn.transaction():
                    lock_products(conn, [product_id])
                    ids, buckets = zip(*some, strict=True)
                    conn.execute(
                        "INSERT INTO touched_consensus (consensus_id, bucket)"
                        " SELECT * FROM unnest(%s::integer[], %s::timestamptz[])",
                        (list(ids), list(buckets)),
                    )
                    changed += store(conn)
    return changed


class Sweeper(threading.Thread):
    """Sweeps in the background, because our own trades are stored by another process, which does not notify this
    one."""

    def __init__(self) -> None:
        super().__init__(name="consensus-sweep", daemon=True)
        self._swept, self._error = time.monotonic(), ""
        # never set: a daemon thread ends with the process, its transaction is rolled back
        self._stop_event = threading.Event()

    def run(self) -> None:
        rounds = 0
        settings = load(DatabaseSettings)
        while not self._stop_event.wait(SWEEP_EVERY_S):
            try:
                with connect_when_ready(settings, "consensus-sweep", self._stop_event) as conn:
                    sweep(conn, ALL_DAYS if rounds % ALL_EVERY == 0 else 1)
                rounds += 1
                self._swept, self._error = time.monotonic(), ""
            except Exception as error:  # shown in /health and retried in the next round
                self._error = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                get_logger().warning(events.DATABASE_RETRY, on="consensus of own trades", error=self._error)

    def why(self) -> str | None:
        """Return the problem for `/health`; None if healthy."""
        if self.is_alive() and time.monotonic() - self._swept < WITHIN_S:
            return None
        return f"the consensus does not include our latest trades: {self._error or 'the last sweep has not ended'}"
