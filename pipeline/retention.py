"""Drop ticks that are older than `DATABASE_RETENTION_DAYS`, once an hour. `python -m pipeline.retention`

Whole chunks go (`drop_chunks`, which both editions of TimescaleDB have). Candles stay, and so does the ledger: what
was dropped stays accounted for and is never fetched again. Off by default.
"""

from __future__ import annotations

import threading
from typing import Any

import click
import psycopg

from pipeline.core import events
from pipeline.core.errors import Unavailable
from pipeline.core.health import HealthServer
from pipeline.core.log import get_logger
from pipeline.core.programs import BY_NAME
from pipeline.core.runtime import Stop, program
from pipeline.core.settings import OWNER_ROLE, DatabaseSettings, load
from pipeline.database.connection import Connection, connect_when_ready
from pipeline.database.migrate import database_when_ready

EVERY_S = 3600.0
TABLES = ("trades", "quotes")


def drop_old(conn: Connection, days: int) -> int:
    """Drop chunks that are wholly older than `days`; returns how many. Notes how far back rows are left."""
    dropped = 0
    for table in TABLES:
        with conn.transaction():
            # The horizon first, in the same transaction: `pipeline.verify` must not miss what is about to go.
            row = conn.execute(
                """
                SELECT max(range_end) FROM timescaledb_information.chunks
                WHERE hypertable_name = %(table)s AND range_end <= now() - %(days)s * INTERVAL '1 day'
                """,
                {"table": table, "days": days},
            ).fetchone()
            if row is None or row[0] is None:
                continue
            conn.execute(
                """
                UPDATE instruments SET dropped_before = greatest(dropped_before, %(until)s)
                WHERE instrument_id IN (SELECT instrument_id FROM quote_hours)
                   OR instrument_id IN (SELECT instrument_id FROM trade_coverage WHERE NOT isempty(ids))
                """,
                {"until": row[0]},
            )
            dropped += conn.execute("SELECT drop_chunks(%s::regclass, %s::timestamptz)", (table, row[0])).rowcount
    return dropped


@click.command()
@program("retention")
def main() -> int:
    """Drop old ticks, hour by hour, until stopped."""
    settings = load(DatabaseSettings)
    if settings.retention_days == 0:
        get_logger().info(events.DISABLED, text="DATABASE_RETENTION_DAYS is 0: every tick is kept")
        return 0
    stop = Stop().listen()
    last: dict[str, Any] = {"dropped_chunks": 0, "error": None}
    HealthServer("retention", BY_NAME["retention"].port, lambda: (last["error"] is None, last))
    database_when_ready(settings, stop)
    while not stop.is_set():
        _once(settings, stop, last)
        stop.wait(EVERY_S if last["error"] is None else 60)
    return 0


def _once(settings: DatabaseSettings, stop: threading.Event, last: dict[str, Any]) -> None:
    try:
        with connect_when_ready(settings, "retention", stop, role=OWNER_ROLE) as conn:
            dropped = drop_old(conn, settings.retention_days)
        last.update(dropped_chunks=last["dropped_chunks"] + dropped, error=None)
        if dropped:
            get_logger().info(events.CHUNKS_DROPPED, chunks=dropped, older_than_days=settings.retention_days)
    except (psycopg.Error, Unavailable) as error:
        last["error"] = str(error)
        get_logger().warning(events.DATABASE_RETRY, error=str(error))


if __name__ == "__main__":
    main()
