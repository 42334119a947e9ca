"""`python -m pipeline.retention`: drop ticks older than `DATABASE_RETENTION_DAYS`, by default once an hour.

Complete chunks are dropped (`drop_chunks`, available in both editions of TimescaleDB), and only those of which the
archive has every row: each file is read and compared with the ledger first. What is not archived is kept and reported.
Candles and the ledger are kept: dropped ticks stay accounted for and are never fetched again. Off by default.

`DATABASE_RETENTION_WITHOUT_ARCHIVE=true` also drops ticks that are in no file: they are lost for good.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
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


@dataclass
class Dropped:
    """How many chunks were dropped, why others are kept, and which files of these are missing or damaged."""

    chunks: int = 0
    kept: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def drop_old(conn: Connection, days: int, storage: Storage, *, without_archive: bool = False) -> Dropped:
    """Drop chunks entirely older than `days`."""
    found = Dropped()
    for chunk in old_chunks(conn, days):
        name = f"{chunk.kind} of {chunk.from_ts:%Y-%m-%d}"
        try:
            if why := held(conn, chunk, days, without_archive=without_archive):
                found.kept += why
            elif wrong := verified(conn, storage, chunk):
                found.wrong += wrong
            else:
                found.chunks += drop(conn, chunk, days, without_archive=without_archive)
        except BUSY:
            found.kept.append(f"{name}: a long query reads them")
        except psycopg.Error as error:  # a chunk that cannot be read keeps only itself
            if conn.closed:
                raise
            found.wrong.append(f"{name}: {' '.join(str(error).split())[:300]}")
    return found


@click.command()
@program("retention")
def main() -> int:
    """Drop old ticks every `DATABASE_RETENTION_POLL_SECONDS`; runs until stopped."""
    settings = load(DatabaseSettings)
    if settings.retention_days == 0:
        get_logger().info(events.DISABLED, text="DATABASE_RETENTION_DAYS is 0: every tick is kept")
        return 0
    if not (load(ArchiveSettings).enabled or settings.retention_without_archive):
        raise WrongUse(
            f"DATABASE_RETENTION_DAYS is {settings.retention_days} and ARCHIVE_ENABLED is false, so dropped ticks"
            " would be lost for good: set ARCHIVE_ENABLED=true, or DATABASE_RETENTION_WITHOUT_ARCHIVE=true"
            " if that is intended."
        )
    stop = Stop().listen()
    last: dict[str, Any] = {"dropped_chunks": 0, "kept": [], "why": []}
    HealthServer("retention", BY_NAME["retention"].port, lambda: (not last["why"], last))
    database_when_ready(settings, stop)
    while not stop.is_set():
        done = _once(settings, stop, last)
        stop.wait(settings.retention_poll_seconds if done else min(60.0, settings.retention_poll_seconds))
    return 0


def _once(settings: DatabaseSettings, stop: threading.Event, last: dict[str, Any]) -> bool:
    """Do a round; False if it could not be done."""
    try:
        with connect_when_ready(settings, "retention", stop, role=OWNER_ROLE) as conn:
            conn.execute("SET statement_timeout = 0")
            storage = open_storage(load(ArchiveSettings))
            found = drop_old(conn, settings.retention_days, storage, without_archive=settings.retention_without_archive)
        last.update(dropped_chunks=last["dropped_chunks"] + found.chunks, kept=found.kept[:20], why=found.wrong[:20])
        if found.chunks:
            get_logger().info(events.CHUNKS_DROPPED, chunks=found.chunks, older_than_days=settings.retention_days)
        if kept := found.wrong + found.kept:
            get_logger().warning(events.CHUNKS_HELD, reasons=len(kept), first=kept[0])
    except (psycopg.Error, Unavailable) as error:
        last["why"] = [str(error)]
        get_logger().warning(events.DATABASE_RETRY, error=str(error))
        return False
    return True


if __name__ == "__main__":
    main()
