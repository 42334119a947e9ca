"""`python -m consumers.archive`: archive complete days as Parquet files, with a catalog.

A round every `ARCHIVE_POLL_SECONDS`: days that ended `ARCHIVE_AFTER_HOURS` ago and are complete by the ledger become
files, days that changed since get a new version, and files no longer needed are removed. See docs/archive.md.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import click
import psycopg
from rich.console import Console
from rich.table import Table

from pipeline.archive import catalog
from pipeline.archive.archive import Archive, Mismatch
from pipeline.archive.due import Due, due
from pipeline.archive.open import open_storage, settle
from pipeline.core import events, metrics
from pipeline.core.errors import Unavailable
from pipeline.core.health import HealthServer
from pipeline.core.log import get_logger
from pipeline.core.programs import BY_NAME
from pipeline.core.progress import Progress
from pipeline.core.runtime import Stop, now_us, program
from pipeline.core.settings import OWNER_ROLE, ArchiveSettings, DatabaseSettings, load
from pipeline.core.times import from_us
from pipeline.database.connection import Connection, connect, connect_when_ready
from pipeline.database.migrate import database_when_ready

AFTER_FAILURE_S = 30.0


@dataclass
class Round:
    """The result of one round; `/health` shows the last one."""

    archived: int = 0
    rows: int = 0
    bytes: int = 0
    waiting: dict[str, int] = field(default_factory=dict)  # spans that are over but incomplete, by what they wait for
    failed: list[str] = field(default_factory=list)
    at: datetime | None = None


@click.command()
@click.option("--once", is_flag=True, help="Run one round; the exit code is 0 if everything due was archived.")
@click.option("--dry-run", is_flag=True, help="Show what is due and what is waited for, without changing anything.")
@program("archive")
def main(once: bool, dry_run: bool) -> int:
    """Archive complete days as Parquet files; runs until stopped."""
    settings = load(ArchiveSettings)
    if dry_run:
        return _dry_run(settings)
    if not (settings.enabled or once):
        get_logger().info(events.DISABLED, text="ARCHIVE_ENABLED is false: nothing is archived")
        return 0
    stop = Stop().listen()
    if once:
        return _once(settings, stop)
    last = Round()
    report: dict[str, Any] = {"why": [], "path": settings.place}
    server = HealthServer("archive", BY_NAME["archive"].port, lambda: (not report["why"], report))
    get_logger().info(events.STARTED, health_port=server.port, path=settings.place)
    database_when_ready(load(DatabaseSettings), stop)
    while not stop.is_set():
        try:
            with connect_when_ready(load(DatabaseSettings), "archive", stop, role=OWNER_ROLE) as conn:
                _wait_for_turn(conn, stop)
                archive = prepared(conn, settings)
                while not stop.is_set():
                    last = round_of(archive, conn, settings, stop)
                    report.update(_reported(last))
                    stop.wait(AFTER_FAILURE_S if last.failed else settings.poll_seconds)
        except (psycopg.Error, Unavailable, OSError) as error:
            if not stop.is_set():
                text = " ".join(str(error).split())[:500]
                report["why"] = [text]
                get_logger().warning(events.ARCHIVE_FAILED, error=text, kind=type(error).__name__)
                stop.wait(AFTER_FAILURE_S)
    server.close()
    get_logger().info(events.STOPPED)
    return 0


def _once(settings: ArchiveSettings, stop: threading.Event) -> int:
    with connect(load(DatabaseSettings), "archive", role=OWNER_ROLE) as conn:
        if not catalog.lock(conn):
            raise Unavailable("another process is archiving this database; try again when it has ended.")
        done = round_of(prepared(conn, settings), conn, settings, stop, bar=sys.stdout.isatty())
        catalog.unlock(conn)
    waits = ", ".join(f"{count} for {what}" for what, count in done.waiting.items())
    size = f", {done.bytes / done.rows:.2f} bytes a row" if done.rows else ""
    click.echo(
        f"archived {done.archived} files with {done.rows:,} rows{size}"
        + (f"; waiting: {waits}" if waits else "")
        + (f"; failed: {len(done.failed)}, {done.failed[0]}" if done.failed else "")
    )
    return 1 if done.failed or stop.is_set() else 0


def _dry_run(settings: ArchiveSettings) -> int:
    with connect(load(DatabaseSettings), "archive", read_only=True) as conn:
        conn.execute("SET statement_timeout = 0")
        found = due(conn, _before(settings))
    table = Table("kind", "venue", "product", "from", "to", "rows", "would be", box=None)
    for one in found:
        span = one.span
        what = f"waiting for {one.waits_for}" if one.waits_for else "archived again" if one.again else "archived"
        times = f"{span.from_ts:%Y-%m-%d}", f"{span.to_ts:%Y-%m-%d}"
        table.add_row(span.kind, span.venue, span.product_id, *times, f"{one.rows:,}" if one.rows else "", what)
    Console(width=None if sys.stdout.isatty() else 140).print(table if found else "Nothing is due.")
    return 0


def _wait_for_turn(conn: Connection, stop: threading.Event) -> None:
    said = False
    while not stop.is_set() and not catalog.lock(conn):
        if not said:
            get_logger().info(events.WAITING, on="the archive's lock", text="another process archives")
            said = True
        stop.wait(5)


def prepared(conn: Connection, settings: ArchiveSettings) -> Archive:
    """Open the archive on a connection that holds its lock. Raises `WrongUse` if its files are missing."""
    conn.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
    conn.execute("SET work_mem = '64MB'")
    storage = open_storage(settings)
    settle(conn, storage)
    return Archive(conn, storage)


def _before(settings: ArchiveSettings) -> datetime:
    return from_us(now_us()) - timedelta(hours=settings.after_hours)


def round_of(
    archive: Archive, conn: Connection, settings: ArchiveSettings, stop: threading.Event, *, bar: bool = False
) -> Round:
    """Archive everything due. A failed span does not stop the others; a lost connection does, and is raised."""
    done = Round()
    archive.sweep()
    found = due(conn, _before(settings))
    for one in found:
        if one.waits_for:
            done.waiting[one.waits_for] = done.waiting.get(one.waits_for, 0) + 1
    ready = [one for one in found if not one.waits_for]
    with Progress("rows", "rows", bars=bar) as progress:
        progress.expect("archiving", sum(one.rows for one in ready))
        for one in ready:
            if stop.is_set():
                break
            _archive(archive, conn, one, done)
            progress.advance("archiving", one.rows)
    done.at = from_us(now_us())
    return done


def _archive(archive: Archive, conn: Connection, one: Due, done: Round) -> None:
    try:
        made = archive.archive(one.span)
    except (Mismatch, OSError, psycopg.Error) as error:
        if conn.closed:
            raise
        done.failed.append(f"{one.span}: {' '.join(str(error).split())[:300]}")
        metrics.ARCHIVE_FAILED.inc()
        get_logger().error(events.ARCHIVE_FAILED, span=str(one.span), error=done.failed[-1])
        return
    if made is None:
        get_logger().info(events.ARCHIVE_CHANGED, span=str(one.span))
    elif made.written is not None:
        done.archived += 1
        done.rows += made.written.rows
        done.bytes += made.written.bytes
        metrics.ARCHIVED_ROWS.labels(one.span.kind).inc(made.written.rows)
        metrics.ARCHIVED_BYTES.labels(one.span.kind).inc(made.written.bytes)
        get_logger().info(
            events.ARCHIVED, span=str(one.span), rows=made.written.rows, bytes=made.written.bytes, again=one.again
        )


def _reported(done: Round) -> dict[str, Any]:
    return {
        "why": done.failed[:5],
        "failed": len(done.failed),
        "archived": done.archived,
        "waiting": done.waiting,
        "last_round_at": done.at,
    }


if __name__ == "__main__":
    main()
