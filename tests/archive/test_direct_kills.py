"""A writer that puts whole days straight into files is killed in the middle of a load through the broker."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import psycopg

from pipeline.archive.archive import check
from pipeline.archive.layout import LAYOUTS
from pipeline.archive.storage import Folder
from pipeline.core.settings import PROJECT
from pipeline.verify import verify
from tests.archive_help import EURUSD_DAY, EURUSD_QUOTES, RECORDINGS, archive_all, archive_in
from tests.environment import Environment
from tests.venue_help import running, until

DAYS = 10
KILLS = 8
# A load from a folder takes idle time only. Beside two busy cores there is none: it loaded 15 hours in 100 s.
AS_OTHERS = "from producers.dukascopy import __main__ as program; program._give_way = id; program.main()"
STORED = "SELECT count(*) FROM quote_hours WHERE ticks > 0"


def test_a_load_whose_writer_is_killed_ends_exact(env: Environment, database_url: str, tmp_path: Path) -> None:
    """Prevents quotes lost, doubled, or in the table and in a file at once."""
    dice = random.Random(7)
    days = [EURUSD_DAY + timedelta(days=n // 5 * 7 + n % 5) for n in range(DAYS)]
    for day in days:
        target = tmp_path / "bi5" / "EURUSD" / f"{day.year}" / f"{day.month - 1:02}" / f"{day.day:02}"
        target.mkdir(parents=True)
        for file in (RECORDINGS / "dukascopy/bi5/EURUSD/2019/01/04").glob("*h_ticks.bi5"):
            shutil.copy(file, target)
    environment = env(ARCHIVE_PATH=tmp_path / "archive", ARCHIVE_DIRECT_DAYS=30, LIMITS_MIN_FREE_DISK_GB=0)
    load = [sys.executable, "-c", AS_OTHERS, "--feed", str(tmp_path / "bi5"), "--instruments", "EURUSD"]
    load += ["--from", f"{days[0]:%Y-%m-%d}", "--to", f"{days[-1] + timedelta(days=1):%Y-%m-%d}"]
    with (
        psycopg.connect(database_url, autocommit=True) as conn,
        subprocess.Popen(load, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL) as loading,
    ):

        def stored() -> int:
            (count,) = conn.execute(STORED).fetchone() or (0,)
            return int(count)

        for _ in range(KILLS):
            begun = conn.execute("SELECT count(*) FROM archive_spans").fetchone()
            with running("consumers.quotes", environment, tmp_path):  # its end is kill -9
                until(
                    "a day that is begun",
                    lambda begun=begun: (
                        conn.execute("SELECT count(*) FROM archive_spans").fetchone() != begun or stored() == 24 * DAYS
                    ),
                    90,
                )
                time.sleep(dice.uniform(0, 0.4))  # where the kill strikes
        with running("consumers.quotes", environment, tmp_path):
            assert loading.wait(180) in (0, 1)  # 1: the hours of the weekend, which the folder does not have
            until("all hours", lambda: stored() == 24 * DAYS, 120)
        archive = archive_in(conn, tmp_path / "archive")
        archive_all(conn, archive)
        archive.sweep(grace_s=0)
        (table,) = conn.execute("SELECT count(*) FROM quotes").fetchone() or (0,)
        files = conn.execute("SELECT path, rows, hash FROM archived WHERE NOT in_tables").fetchall()
        assert table + sum(rows for _, rows, _ in files) == DAYS * EURUSD_QUOTES
        assert files
        for path, rows, told in files:
            found = check(Folder(tmp_path / "archive"), path, LAYOUTS["quotes"])
            assert (found.rows, found.hash) == (rows, told)
        (twice,) = conn.execute(
            "SELECT count(*) FROM quotes q JOIN archive_only o ON q.ts >= o.from_ts AND q.ts < o.to_ts"
        ).fetchone() or (None,)
        assert twice == 0
        verdicts = verify(conn, storage=Folder(tmp_path / "archive"))
        assert [text for verdict in verdicts for text in verdict.wrong if "asked for" not in text] == []
        known = {path for (path,) in conn.execute("SELECT path FROM archive_files WHERE deleted_at IS NULL")}
        on_disk = {
            file.relative_to(tmp_path / "archive").as_posix() for file in (tmp_path / "archive").rglob("*.parquet")
        }
        assert on_disk == known
