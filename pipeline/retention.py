"""Drop ticks that are older than `DATABASE_RETENTION_DAYS`, once an hour. `python -m pipeline.retention`

Whole chunks go (`drop_chunks`, which both editions of TimescaleDB have), and only those of which the archive holds
every row: each file is read and compared with the ledger before. What is not archived stays, and is said. Candles
stay, and so does the ledger: what was dropped stays accounted for and is never fetched again. Off by default.

`DATABASE_RETENTION_WITHOUT_ARCHIVE=true` drops what is in no file too: it is gone for good.
"""

from __future__ import annotations

import threading
from typing import Any

import click
import psycopg

from pipeline.archive.drop import BUSY, drop, held, old_chunks, verified
from pipeline.archive.open import open_storage
from pipeline.archive.storage import Storage
from pipeline.core import events
from pipeline.core.errors import Unavailable, WrongUse
from pipeline.core.health import HealthServer
from pipeline.core.log import get_logger
from pipeline.core.programs import BY_NAME
from pipeline.core.runtime import Stop, program
from pipeline.core.settings import OWNER_ROLE, ArchiveSettings, DatabaseSettings, load
from pipeline.database.connection import Connection, connect_when_ready
from pipeline.database.migrate import database_when_ready

EVERY_S = 3600.0


def drop_old(conn: Connection, days: int, storage: Storage, *, without_archive: bool = False) -> tuple[int, list[str]]:
    """Drop chunks that are wholly older than `days`; how many, and why others stay."""
    dropped, kept = 0, []
    for chunk in old_chunks(conn, days):
        why = held(conn, chunk, days, whatever=without_archive) or verified(conn, storage, chunk)
        if why:
            kept += why
            continue
        try:
            dropped += drop(conn, chunk, days, whatever=without_archive)
        except BUSY:
            kept.append(f"{chunk.kind} of {chunk.from_ts:%Y-%m-%d}: a long query reads them")
    return dropped, kept


@click.command()
@program("retention")
def main() -> int:
    """Drop old ticks, hour by hour, until stopped."""
    settings = load(DatabaseSettings)
    if settings.retention_days == 0:
        get_logger().info(events.DISABLED, text="DATABASE_RETENTION_DAYS is 0: every tick is kept")
        return 0
    if not (load(ArchiveSettings).enabled or settings.retention_without_archive):
        raise WrongUse(
            f"DATABASE_RETENTION_DAYS is {settings.retention_days} and ARCHIVE_ENABLED is false, so what is dropped"
            " would be gone for good: set ARCHIVE_ENABLED=true, or DATABASE_RETENTION_WITHOUT_ARCHIVE=true"
            " if that is meant."
        )
    stop = Stop().listen()
    last: dict[str, Any] = {"dropped_chunks": 0, "kept": [], "why": []}
    HealthServer("retention", BY_NAME["retention"].port, lambda: (not last["why"], last))
    database_when_ready(settings, stop)
    while not stop.is_set():
        _once(settings, stop, last)
        stop.wait(60 if last["why"] else EVERY_S)
    return 0


def _once(settings: DatabaseSettings, stop: threading.Event, last: dict[str, Any]) -> None:
    try:
        with connect_when_ready(settings, "retention", stop, role=OWNER_ROLE) as conn:
            conn.execute("SET statement_timeout = 0")
            storage = open_storage(load(ArchiveSettings))
            dropped, kept = drop_old(
                conn, settings.retention_days, storage, without_archive=settings.retention_without_archive
            )
        last.update(dropped_chunks=last["dropped_chunks"] + dropped, kept=kept[:20], why=[])
        if dropped:
            get_logger().info(events.CHUNKS_DROPPED, chunks=dropped, older_than_days=settings.retention_days)
        if kept:
            get_logger().warning(events.CHUNKS_HELD, reasons=len(kept), first=kept[0])
    except (psycopg.Error, Unavailable) as error:
        last["why"] = [str(error)]
        get_logger().warning(events.DATABASE_RETRY, error=str(error))


if __name__ == "__main__":
    main()
