"""A venue's public archive of trades: one zip file per day, with a checksum file beside it.

The checksum file holds the zip's SHA-256 as written by `sha256sum`. A zip that does not match is not used; of one that
does, only trades with contiguous ids are used. So the archive is never evidence that an id does not exist.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from pipeline.core import events
from pipeline.core.errors import PipelineError, Refused, WrongAnswer
from pipeline.core.log import get_logger
from pipeline.core.retry import retry_request
from pipeline.core.runtime import now_us
from pipeline.core.stopping import abandonable
from pipeline.core.times import DAY_US
from schemas.records import TradeRow
from venues.id_ranges import IdRange
from venues.rest.client import Answer, Client

ATTEMPTS = 4
ROWS = 1000  # yielded at once, as many as a REST page holds
# A file is fetched in pieces, so that memory and the time of one answer stay bounded.
PIECE_BYTES = 16 << 20
MAX_BYTES = 4 << 30  # of a file, more than ten times the largest
MAX_LINE = 500  # bytes; a line has some 80
MAX_LIST = 128 << 10  # bytes; the end record of a zip is searched for in its last 64 kB
MOST_ODD = 1000  # malformed or out-of-order lines; a file with more is not a file of trades
AGAIN_S = 3600.0  # a file that is absent or unusable is not requested again before this time
_SHA256 = re.compile(rb"\s*([0-9a-f]{64})\b")
_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")
_UNREADABLE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, IndexError)


@dataclass
class Planned:
    """What part of a load would come from an archive. `absent`: days without a file."""

    trades: int = 0
    files: int = 0
    bytes: int = 0
    absent: list[date] = field(default_factory=list)


@runtime_checkable
class WithArchive(Protocol):
    """A source of trades that takes long ranges from an archive."""

    def planned(self, product_id: str, missing: Sequence[IdRange]) -> Planned | None:
        """Return what part of these ids would come from the archive; None if it is not used. Makes requests and raises
        what a load raises."""


class Archive:
    """Fetches daily files into `state_dir` and verifies them; keeps only the newest file of each symbol.

    `path_of(symbol, day)` returns the zip's path; its checksum is at the same path plus `.CHECKSUM`. `read` parses a
    line into a trade, or None if it is not one. Days are numbered since 1970.
    """

    def __init__(
        self,
        venue: str,
        url: str,
        path_of: Callable[[str, date], str],
        read: Callable[[bytes], TradeRow | None],
        state_dir: Path,
        stop: threading.Event,
    ) -> None:
        self._path_of, self._read, self._stop = path_of, read, stop
        self._folder = state_dir / f"{venue}-archive"
        self._log = get_logger().bind(venue=venue)
        # Not compressed on the way: byte ranges refer to the file itself.
        self._client = Client(venue, url, stop, headers={"Accept-Encoding": "identity", "Accept": "*/*"})
        self._without: dict[str, float] = {}  # files that are absent or unusable, and since when

    def file(self, symbol: str, day: int) -> Path | None:
        """Return the verified file of a day, fetching it if needed; None if it is absent or unusable, which is
        logged."""
        path = self._path_of(symbol, _date(day))
        name = path.rpartition("/")[2]
        file, now = self._folder / name, time.monotonic()
        if now - self._without.get(name, -AGAIN_S) < AGAIN_S or _running(day):
            return None
        if file.exists():
            return file
        try:
            self._fetch(path, file)
        except (PipelineError, OSError) as error:
            self._without[name] = now
            log = self._log.info if isinstance(error, Refused) else self._log.warning
            log(events.REQUEST_FAILED, request=name, error=str(error), text="its trades are asked of REST")
            return None
        for older in self._folder.glob(f"{symbol}-*.zip"):
            if older != file:
                older.unlink(missing_ok=True)
        return file

    def planned(
        self,
        symbol: str,
        wanted: Iterable[IdRange],
        time_of: Callable[[int], int],
        first_id_at: Callable[[int], int],
    ) -> Planned:
        """Return which files a load of these ids would use. `time_of(id)` and `first_id_at(us)` make REST requests."""
        found, sizes = Planned(), dict[int, int | None]()
        for first, last in wanted:
            begin, end = (time_of(number) // DAY_US for number in (first, last))
            for day in range(begin, end + 1):
                if day not in sizes:
                    sizes[day] = self._size(symbol, day)
            absent = [day for day in range(begin, end + 1) if sizes[day] is None]
            found.trades += last - first + 1
            for day in absent:
                low = first if day == begin else first_id_at(day * DAY_US)
                high = last + 1 if day == end else first_id_at((day + 1) * DAY_US)
                found.trades -= high - low
        there = [size for size in sizes.values() if size is not None]
        found.files, found.bytes = len(there), sum(there)
        found.absent = [_date(day) for day in sorted(sizes) if sizes[day] is None and not _running(day)]
        return found

    def _size(self, symbol: str, day: int) -> int | None:
        """Return the size of a day's file in bytes; None if there is none."""
        if _running(day):
            return None
        try:
            answer = self._ask(self._path_of(symbol, _date(day)), {"Range": "bytes=0-0"})
        except Refused:
            return None
        whole = _TOTAL.fullmatch(answer.headers.get("Content-Range", ""))
        return int(whole[1]) if whole else len(answer.body)

    def _fetch(self, path: str, file: Path) -> None:
        """Download and verify a file. Raises `Refused` if there is none, `WrongAnswer` if it does not match its
        checksum."""
        checksum = _SHA256.match(self._ask(f"{path}.CHECKSUM").body)
        if checksum is None:
            raise WrongAnswer(f"{path}.CHECKSUM holds no SHA-256")
        self._folder.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        size, total, digest = 0, 1, hashlib.sha256()
        try:
            with part.open("wb") as out:
                while size < total:
                    answer = self._ask(path, {"Range": f"bytes={size}-{size + PIECE_BYTES - 1}"})
                    whole = _TOTAL.fullmatch(answer.headers.get("Content-Range", ""))
                    if not answer.body or (size and whole is None):
                        raise WrongAnswer(f"{path}: byte ranges are not supported")
                    out.write(answer.body)
                    digest.update(answer.body)
                    size += len(answer.body)
                    total = int(whole[1]) if whole else size
                    if total > MAX_BYTES:
                        raise WrongAnswer(f"{path}: {total} bytes are too many for a day of trades")
            if digest.hexdigest() != checksum[1].decode():
                raise WrongAnswer(f"{path} does not match its checksum")
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)

    def _ask(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        def attempt() -> Answer:
            return abandonable(lambda: self._client.ask(path, {}, headers), self._stop, f"GET {path}")

        return retry_request(path, attempt, ATTEMPTS, self._stop, self._log)

    def rows(self, file: Path, after_id: int = -1) -> Iterator[TradeRow]:
        """Yield the storable trades of a daily file after `after_id`, ascending. Ends where the file becomes
        unreadable, which is logged."""
        newest, passed, odd = after_id, -1, 0
        try:
            with _Listed(file) as opened, zipfile.ZipFile(opened) as packed, packed.open(_only(packed)) as unpacked:
                lines = io.BufferedReader(unpacked)  # type: ignore[type-var]
                while line := lines.readline(MAX_LINE):
                    # A walk that resumes within a day skips millions of lines: 1.5 M lines/s, parsed whole 0.25 M.
                    number = line.partition(b",")[0]
                    if newest == after_id and number.isdigit() and passed < int(number) <= after_id:
                        passed = int(number)
                        continue
                    row = self._read(line)
                    if row is not None and row.trade_id > newest:
                        newest = row.trade_id
                        yield row
                        continue
                    odd += 1
                    if odd > MOST_ODD:
                        raise ValueError(f"more than {MOST_ODD} lines are not trades")
        except _UNREADABLE as error:
            self._log.warning(
                events.REQUEST_FAILED,
                request=file.name,
                error=f"{type(error).__name__}: {error}",
                text="its trades are asked of REST",
            )


class _Listed(io.FileIO):
    """A zip whose list of files, which is read at once, must be as short as that of a single file."""

    def read(self, size: int | None = -1, /) -> bytes:
        most = MAX_LIST + 1 if size is None or size < 0 else size
        data = b"" if most > MAX_LIST + 1 else super().read(most)
        if most > MAX_LIST + 1 or len(data) > MAX_LIST:
            raise ValueError("it lists too many files")
        return data


def _only(packed: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Return the first file of a zip. Raises `ValueError` for methods that unpack without limit: 4 kB may be 80 MB."""
    found = packed.infolist()[0]
    if found.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("it is neither stored nor deflated")
    return found


def _running(day: int) -> bool:
    """Return whether the day is not over, so that it has no file yet."""
    return (day + 1) * DAY_US > now_us()


def _date(day: int) -> date:
    return datetime.fromtimestamp(day * DAY_US // 1_000_000, UTC).date()


class DayFiles:
    """The daily files of one symbol, read forward by one walk."""

    def __init__(self, archive: Archive, symbol: str) -> None:
        self._archive, self._symbol = archive, symbol
        self._day: int | None = None
        self._rows: Iterator[TradeRow] = iter(())
        self._ahead: TradeRow | None = None

    def following(self, last: TradeRow) -> Iterator[list[TradeRow]]:
        """Yield the trades that follow `last` with contiguous ids, to the end of its day, in lists of up to `ROWS`."""
        day = last.timestamp_us // DAY_US
        if day != self._day:
            file = self._archive.file(self._symbol, day)
            self._day, self._rows = day, self._archive.rows(file, last.trade_id) if file else iter(())
            self._ahead = next(self._rows, None)
        newest, rows = last.trade_id, []
        while self._ahead is not None and self._ahead.trade_id <= newest + 1:
            if self._ahead.trade_id > newest:
                newest = self._ahead.trade_id
                rows.append(self._ahead)
            self._ahead = next(self._rows, None)
            if len(rows) == ROWS:
                yield rows
                rows = []
        if rows:
            yield rows
