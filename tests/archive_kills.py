"""Kill whoever archives, drops, restores and sweeps, again and again, and look after every kill that no row is lost,
doubled, or in both tiers: `python -m tests.archive_kills DATABASE_URL ROUNDS SEED`, with the
settings ARCHIVE_*.

A process of its own that forks, because a kill must find the work in the middle and not an interpreter that starts.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import structlog
from psycopg import sql

from consumers import direct
from consumers.archive import prepared
from consumers.quote_hours import Hours
from consumers.subscription import Message
from consumers.trades import Trades
from pipeline.archive import archive as archiving
from pipeline.archive import catalog, due, files, ledger
from pipeline.archive import drop as dropping
from pipeline.archive import restore as restoring
from pipeline.archive.archive import Archive
from pipeline.archive.open import open_storage
from pipeline.archive.s3 import Bucket
from pipeline.archive.storage import Folder
from pipeline.core.settings import ArchiveSettings, load
from pipeline.core.times import from_us
from pipeline.database import query
from pipeline.retention import drop_old
from tests.archive_help import NOW, archive_all, rows_everywhere
from tests.messages import T0_US, hour_bytes, received, store, trade, trades_record

DAYS = 6
QUOTES_AN_HOUR = 4
OPTIONS = "-c timezone=UTC -c jit=off"
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
START_US = T0_US // DAY_US * DAY_US
# Where a process can end: before or after each of these.
STEPS: list[tuple[Any, str]] = [
    (files, "write"),
    (os, "fsync"),
    (Folder, "keep"),
    (Bucket, "keep"),
    (archiving, "check"),
    (ledger, "begin"),
    (ledger, "commit"),
    (catalog, "begin"),
    (catalog, "add"),
    (catalog, "end"),
    (catalog, "finish"),
    (catalog, "forget"),
    (Folder, "remove"),
    (Bucket, "remove"),
    (ledger, "delete_rows"),
    (dropping, "held"),
    (restoring, "check"),
    (ledger, "back_in_tables"),
    (ledger, "begin_direct"),
    (ledger, "commit_direct"),
]


_KNOWN = "SELECT EXISTS (SELECT FROM quote_hours WHERE hour = %s)"


class Market:
    """Stores trades and quotes as writers do, and remembers them."""

    def __init__(self, conn: Any, dice: random.Random) -> None:
        self._conn, self._dice = conn, dice
        self._next_id = 1
        self._fetched_us = START_US + 100 * DAY_US
        for day in range(DAYS):
            self.trades(day, 150)
            for hour in range(0, 24, 6):
                self.hour(day, hour, 40)
        conn.execute(  # nobody asked for the hours between
            "INSERT INTO quote_requests (instrument_id, hours)"
            " SELECT instrument_id, range_agg(tstzrange(hour, hour + INTERVAL '1 hour')) FROM quote_hours GROUP BY 1"
        )

    def trades(self, day: int, count: int) -> None:
        rows = []
        for _ in range(count):
            moment = START_US + day * DAY_US + self._dice.randrange(DAY_US)
            price = f"{self._dice.randrange(1, 10**6)}.{self._dice.randrange(10**5)}"
            rows.append(trade(self._next_id, moment, price=price, quantity="0.5"))
            self._next_id += 1
        message = received("trades", trades_record(rows, origin="history"))
        assert store(Trades(), self._conn, [message]) == (count, [])

    def hour(self, day: int, hour: int, count: int) -> None:
        self._fetched_us += 1_000_000
        start_us = START_US + day * DAY_US + hour * HOUR_US
        offsets = sorted(self._dice.sample(range(3_600_000), count))
        bids = [114_000 + self._dice.randrange(1000) for _ in offsets]
        data = hour_bytes(offsets, bids, hour_start_us=start_us, fetched_at_us=self._fetched_us)
        assert store(Hours(), self._conn, [received("quotes", data)]) == (count, [])

    def change(self) -> None:
        """Late repairs and corrected hours of some days, dropped or not."""
        for day in range(DAYS):
            if self._dice.random() < 0.4:
                self.trades(day, self._dice.randrange(1, 5))
            if self._dice.random() < 0.4:
                self.hour(day, 6 * self._dice.randrange(4), self._dice.randrange(1, 60))


def whole_day(number: int, dice: random.Random) -> list[Message]:
    """A day of quotes that nobody has yet, as a writer finds it in a batch."""
    messages = []
    for hour in range(24):
        start_us = START_US + (50 + number) * DAY_US + hour * HOUR_US
        offsets = sorted(dice.sample(range(3_600_000), QUOTES_AN_HOUR))
        bids = [114_000 + dice.randrange(1000) for _ in offsets]
        data = hour_bytes(offsets, bids, hour_start_us=start_us, fetched_at_us=start_us + DAY_US)
        messages.append(received("quotes", data))
    return messages


def work(url: str, dice: random.Random, arrived: list[Message]) -> None:
    """What the writer of whole days, the archive, retention and somebody who restores do; any part may be the last."""
    with psycopg.connect(url, autocommit=True, options=OPTIONS, application_name="work") as conn:
        others = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'work' AND datname = current_database()"
        )
        while query.scalar(conn, others) > 1:  # the database still ends the session of the process that was killed
            time.sleep(0.005)
        assert catalog.lock(conn)
        if arrived:
            store(Hours(), conn, arrived)
        settings = load(ArchiveSettings)
        archive, storage = prepared(conn, settings), open_storage(settings)
        archive.sweep(grace_s=0)
        archive_all(conn, archive)
        drop_old(conn, 30, storage)
        if dice.random() < 0.3:
            dropped = ledger.spans(conn, sql.SQL("NOT in_tables AND up_to_date"), {})
            for span in dice.sample(dropped, min(2, len(dropped))):
                restoring.restore(conn, storage, span, NOW - timedelta(days=1))
        archive.sweep(grace_s=0)


def deadly(real: Callable[..., Any], left: list[int], *, after: bool) -> Callable[..., Any]:
    """`real`, ending the process at its n-th call."""

    def call(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        made = real(*arguments, **named)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return made

    return call


def killed(url: str, dice: random.Random, full_s: float, arrived: list[Message]) -> bool:
    """Let a process work and kill it: half of the time at a step, else after some time. False: it was quicker."""
    step = dice.choice(STEPS) if dice.random() < 0.5 else None
    nth, after, seed = dice.randrange(1, 4), dice.random() < 0.5, dice.random()
    child = os.fork()
    if child == 0:
        if step is not None:
            setattr(step[0], step[1], deadly(getattr(step[0], step[1]), [nth], after=after))
        try:
            work(url, random.Random(seed), arrived)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    if step is None:
        time.sleep(dice.uniform(0, full_s))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the work itself failed"
    return os.WIFSIGNALED(status)


def everything(conn: Any, archive: Archive) -> dict[str, list[Any]]:
    return {kind: rows_everywhere(conn, archive, kind) for kind in ("trades", "quotes")}


def main(url: str, rounds: int, seed: int) -> None:
    due.THIN_ROWS = direct.LEAST_ROWS = 10  # so that days are days
    os.environ["ARCHIVE_DIRECT_DAYS"] = "30"
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    dice = random.Random(seed)
    kills: Counter[bool] = Counter()
    with psycopg.connect(url, autocommit=True, options=OPTIONS) as conn:
        market = Market(conn, dice)
        storage = open_storage(load(ArchiveSettings))
        looking = Archive(conn, storage)
        full_s, days, arrived = 0.5, 0, whole_day(0, dice)
        while kills[True] < rounds:
            market.change()
            if query.scalar(conn, _KNOWN, (from_us(START_US + (50 + days) * DAY_US),)):  # committed after it was killed
                days += 1
                arrived = whole_day(days, dice)
            before = everything(conn, looking)
            began = time.monotonic()
            kills[killed(url, dice, full_s, arrived)] += 1
            full_s = 0.8 * full_s + 0.2 * (time.monotonic() - began)
            now = everything(conn, looking)
            came = Counter(now["quotes"]) - Counter(before["quotes"])
            if came:  # all of the day, or it is not acknowledged and comes again
                assert {row[2].date() for row in came} == {from_us(START_US + (50 + days) * DAY_US).date()}
                assert came.total() == 24 * QUOTES_AN_HOUR
                before["quotes"] = sorted([*before["quotes"], *came])
                days += 1
                arrived = whole_day(days, dice)
            assert now == before, f"seed {seed}, after {dict(kills)}"
            twice = [row for kind in now.values() for row, count in Counter(kind).items() if count > 1]
            assert twice == []
        work(url, dice, [])
        work(url, dice, [])
        assert everything(conn, looking) == before
        on_disk = set(storage.files())
        assert not list(storage.work.glob("*"))
        known = conn.execute("SELECT path FROM archive_files WHERE deleted_at IS NULL").fetchall()
        assert on_disk == {path for (path,) in known}, "orphans"
        in_lake = conn.execute("SELECT data_file_id FROM lake.ducklake_data_file WHERE end_snapshot IS NULL").fetchall()
        assert (
            sorted(in_lake)
            == conn.execute("SELECT file_id FROM archive_files WHERE ended_at IS NULL ORDER BY 1").fetchall()
        )
        total = sum(len(rows) for rows in before.values())
    print(f"{kills[True]} kills ({kills[False]} were too late), {total} rows, {days} days, {len(on_disk)} files")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
