"""Write complete days of old quotes straight from a batch into archive files, bypassing the table.

If a batch has every hour of a day, the day becomes a file before the batch's transaction. The transaction then commits
candles, ledger, catalog and the record that the rows are in the file. If anything prevents that (an hour is known
already, the disk is full, another batch was quicker), the day is stored in the table as usual.

The steps are those of every archive file (`pipeline.archive.ledger`); an interruption leaves a file that the archive's
next sweep removes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa

from consumers.hour_state import Candidate, Name
from consumers.sink import MessageSlice
from pipeline.archive import catalog, files, ledger
from pipeline.archive.archive import clear_left_behind, remove
from pipeline.archive.layout import LAYOUTS, Span
from pipeline.archive.open import check_place, open_storage
from pipeline.archive.rows import ints
from pipeline.archive.storage import Storage
from pipeline.archive.wide import narrow
from pipeline.core import events
from pipeline.core.errors import WrongUse
from pipeline.core.log import get_logger
from pipeline.core.runtime import now_us
from pipeline.core.settings import ArchiveSettings, load
from pipeline.core.times import DAY_US, from_us
from pipeline.database.connection import Connection

LEAST_ROWS = 2_000  # per day; instruments with fewer get a file per month
FINAL = ("present", "confirmed_empty", "closed")
HELD_BYTES = 16 << 20  # most bytes of unfinished days to hold back: seven days of a busy pair


@dataclass
class _Day:
    """A day that may be written straight into a file."""

    span: Span
    hours: list[Name]
    rows: pa.Table
    begun: ledger.Begun | None = None
    written: files.Written | None = None


@dataclass
class Days:
    """The days of a batch written by `Direct.written`. `committed`: hours whose rows this transaction put into a
    file."""

    days: list[_Day] = field(default_factory=list)
    committed: set[Name] = field(default_factory=set)

    def commit(self, conn: Connection, fresh: Mapping[Name, Candidate]) -> set[Name]:
        """Commit the files; returns the hours whose rows need not be stored. Call it in the batch's transaction, under
        the instruments' lock."""
        self.committed = set()
        for day in self.days:
            whole = all(name in fresh and fresh[name].hour.state in FINAL for name in day.hours)
            if whole and day.begun and day.written and ledger.commit_direct(conn, day.begun, day.written):
                self.committed.update(day.hours)
        return self.committed


class Direct:
    """Direct archiving. Off unless `ARCHIVE_DIRECT_DAYS` is set."""

    def __init__(self) -> None:
        settings = load(ArchiveSettings)
        self.days = settings.direct_days
        self._settings = settings
        self._storage: Storage | None = None

    def hold(self, parts: Sequence[MessageSlice]) -> list[MessageSlice]:
        """Return what to hold back: of each topic, the hours of its last day while that day is incomplete."""
        topics: dict[str, list[MessageSlice]] = defaultdict(list)
        for part in parts if self.days else ():
            topics[part.message.topic].append(part)
        held: list[MessageSlice] = []
        before_us = now_us() - self.days * DAY_US
        for inside in topics.values():
            hours = [part.record.header.hour_start_us for part in inside]
            day = hours[-1] // DAY_US
            first = next(number for number, hour in enumerate(hours) if hour // DAY_US == day)
            if (day + 1) * DAY_US <= before_us and len({hour for hour in hours if hour // DAY_US == day}) < 24:
                held += inside[first:]
        return held if sum(len(part.message.data) for part in held) < HELD_BYTES else []

    @contextmanager
    def written(
        self, conn: Connection, hours: Mapping[Name, Candidate], ids: dict[tuple[str, str], int]
    ) -> Iterator[Days]:
        """Context manager: write the complete days of a batch; files not committed inside the context are removed."""
        days = self._whole_days(hours, ids) if self.days else []
        storage = self._opened(conn) if days else None
        if storage is None:
            yield Days()
            return
        # The archive's sweep waits for this lock, which a writer that has died does not hold.
        catalog.lock_writing(conn)
        try:
            begun = ledger.begin_direct(conn, [day.span for day in days])
            for day in days:
                day.begun = begun.get(day.span)
            made = Days([day for day in days if day.begun])
            for day in made.days:
                if (error := _write(storage, day)) is not None:  # the day is stored as usual
                    day.written = None
                    get_logger().warning(events.ARCHIVE_FAILED, span=str(day.span), error=error)
            yield made
            for day in made.days:
                if day.begun and not made.committed.issuperset(day.hours):
                    with suppress(OSError):  # then the next sweep removes it
                        remove(storage, day.begun.path)
                        ledger.not_writing(conn, day.span)
        finally:
            with suppress(psycopg.Error):  # a lost connection holds no lock
                catalog.unlock_writing(conn)

    def _opened(self, conn: Connection) -> Storage | None:
        """Return the storage; None if the catalog's files are elsewhere: readers would not find those written here."""
        if self._storage is None:
            storage = open_storage(self._settings)
            try:
                check_place(conn, storage)
            except (WrongUse, OSError) as error:
                get_logger().warning(events.ARCHIVE_FAILED, error=str(error))
                return None
            self._storage = storage
            with suppress(OSError):  # then the archive's sweep clears it
                clear_left_behind(conn, storage)
        return self._storage

    def _whole_days(self, hours: Mapping[Name, Candidate], ids: dict[tuple[str, str], int]) -> list[_Day]:
        groups: dict[tuple[str, str, int], list[Name]] = defaultdict(list)
        for venue, product, hour_us in hours:
            groups[venue, product, hour_us // DAY_US * DAY_US].append((venue, product, hour_us))
        before_us = now_us() - self.days * DAY_US
        days = []
        for (venue, product, day_us), names in sorted(groups.items()):
            members = [hours[name] for name in sorted(names)]
            rows = sum(len(one.columns) for one in members)
            if len(names) < 24 or rows < LEAST_ROWS or day_us + DAY_US > before_us or any(m.refused for m in members):
                continue
            table = _table([one for one in members if len(one.columns)])
            if table is not None:
                span = Span(ids[venue, product], venue, product, "quotes", from_us(day_us), from_us(day_us + DAY_US))
                days.append(_Day(span, sorted(names), table))
        return days


def _table(hours: Sequence[Candidate]) -> pa.Table | None:
    """Return the rows of a day as Arrow columns; None if its hours differ in scale, or need more than 18 digits."""
    headers = [one.columns.header for one in hours]
    if len({(header.price_scale, header.size_scale) for header in headers}) > 1:
        return None
    columns: dict[str, Any] = {
        "ts": ints(
            np.concatenate([one.columns.header.hour_start_us + one.columns.offset_ms * 1000 for one in hours])
        ).cast(pa.timestamp("us", tz="UTC")),
        "seq": ints(np.concatenate([one.seq for one in hours])).cast(pa.int32()),
    }
    for name in LAYOUTS["quotes"].named("decimal"):
        scale = headers[0].size_scale if name.endswith("size") else headers[0].price_scale
        values = np.concatenate([getattr(one.columns, name) for one in hours])
        largest = max(int(values.max()), -int(values.min()))
        type_ = files.decimal_type(largest // 10**scale, scale)
        if type_.precision > 18:
            return None
        columns[name] = narrow(values, type_)
    return pa.table(columns)


def _write(storage: Storage, day: _Day) -> str | None:
    """Write, read back and compare a day's file. Returns what went wrong, or None."""
    assert day.begun is not None  # only these are written
    work = storage.work / day.begun.path.rpartition("/")[2]
    types = {name: day.rows.schema.field(name).type for name in day.span.layout.named("decimal")}
    pieces = (day.rows.slice(low, files.ROW_GROUP) for low in range(0, len(day.rows), files.ROW_GROUP))
    try:
        day.written = files.write(work, day.span, 0, files.schema_of(day.span.layout, types), pieces)
        storage.keep(work, day.begun.path)
        # Compared with the rows themselves, which are in memory: a second hash costs thirty times as much.
        found = pa.concat_tables(files.read(storage.open(day.begun.path), day.rows.column_names))
        if not found.cast(day.rows.schema).equals(day.rows):
            return f"{day.begun.path} differs from what was written"
    except (OSError, ValueError, pa.ArrowException) as error:
        return f"{type(error).__name__}: {error}"
    return None
