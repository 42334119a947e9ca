"""The archive on the page and in status: what it holds, and in which tier a day is."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg
from rich.console import Console

from pipeline import status
from pipeline.ops import collect
from tests.archive_help import EURUSD_DAY, EURUSD_QUOTES, archive_all, archive_in, drop_from_tables, store_eurusd_day
from tests.dashboard_help import Client, asked


def test_days_say_where_they_are_and_the_state_what_is_archived(
    in_env: Callable[..., None], database_url: str, tmp_path: Path
) -> None:
    """Rows that left the tables must not look as if they were gone."""
    in_env()
    with psycopg.connect(database_url, autocommit=True) as conn:
        for day in range(3):
            store_eurusd_day(conn, EURUSD_DAY + timedelta(days=day))
        archive_all(conn, archive_in(conn, tmp_path), EURUSD_DAY + timedelta(days=2))
        drop_from_tables(conn, EURUSD_DAY, EURUSD_DAY + timedelta(days=1))

    async def ask(client: Client) -> tuple[object, object]:
        days = await client.get("/api/days?venue=dukascopy&product=EUR-USD")
        state = await client.get("/api/state")
        return await days.json(), await state.json()

    days, state = asked(ask)
    assert [(day["rows"], day["tier"], day["state"]) for day in days] == [
        (EURUSD_QUOTES, tier, "complete") for tier in ("files", "both", "tables")
    ]
    (held,) = state["archive"]
    assert (held["kind"], held["files"], held["rows"], held["files_only"]) == (
        "quotes",
        2,
        2 * EURUSD_QUOTES,
        EURUSD_QUOTES,
    )
    assert held["until_at"] == int((EURUSD_DAY + timedelta(days=2)).timestamp())


def test_status_shows_bytes_a_row_and_age() -> None:
    """Columns that are cut off or wrapped."""
    until = EURUSD_DAY + timedelta(days=1)
    rows, size, alone = 1_234_567_890, 6_654_320_927, 1_234_000_000
    held = collect.ArchiveState("dukascopy", "BRENTCMD-USD", "quotes", 3650, rows, size, alone, 3, until, until, 93_600)
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(status.render(collect.State([], [], {}, [], archive=[held])))
    text = console.export_text()
    for word in ("1,234,567,890", "3,650 (3 changed)", "5.39", "1,234,000,000", "2019-02-05", "26 h"):
        assert word in text
    assert "…" not in text
