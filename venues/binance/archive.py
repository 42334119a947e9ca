"""Binance's public archive: a zip of each day's trades, there from the next day on.

github.com/binance/binance-public-data describes it::

    https://data.binance.vision/data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2024-12-31.zip
    https://data.binance.vision/data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2024-12-31.zip.CHECKSUM

The second holds the SHA-256 of the first, as `sha256sum` writes it. Some files have holes of hours (issue 106 there),
some never matched their checksum (issue 405). A file that does not match is not used; of one that does, only trades
that follow each other by id are.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import requests

from pipeline.core import events
from pipeline.core.errors import PipelineError, Refused, Unavailable, WrongAnswer
from pipeline.core.log import get_logger
from pipeline.core.retry import asking
from pipeline.core.runtime import now_us
from pipeline.core.stopping import abandonable
from schemas.records import TradeRow
from venues.binance import parse
from venues.rest.bounded import BoundedSession
from venues.rest.client import TIMEOUT_S, mapped

ATTEMPTS = 4
ROWS = 1000  # at once, as many as a page of REST
DAY_S = 86_400
# A file is fetched in pieces, so that memory and the time of one answer stay bounded.
PIECE_BYTES = 16 << 20
MAX_BYTES = 4 << 30  # of a file, more than ten times the largest
MAX_LINE = 500  # bytes; a line has some 80
MOST_ODD = 1000  # lines that are no trade, or not later than the one before: then it is no file of trades
AGAIN_S = 3600.0  # a file that is not there, or cannot be used, may be replaced
_SHA256 = re.compile(rb"\s*([0-9a-f]{64})\b")
_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")
_UNREADABLE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, IndexError)


class Archive:
    """Fetches daily files into `state_dir` and verifies them; keeps the newest one of each symbol."""

    def __init__(self, url: str, state_dir: Path, stop: threading.Event) -> None:
        self._url, self._folder, self._stop = url, state_dir / "binance-archive", stop
        self._log = get_logger().bind(venue="binance")
        self._session = BoundedSession()
        self._session.headers["User-Agent"] = "market-data-pipeline"
        self._session.headers["Accept-Encoding"] = "identity"  # a range of bytes is of the file itself
        self._without: dict[str, float] = {}  # files that are not there or cannot be used, and since when

    def file(self, symbol: str, day: int) -> Path | None:
        """The verified file of a day (since 1970); None where there is none, which is said where it is a surprise."""
        name = f"{symbol}-trades-{datetime.fromtimestamp(day * DAY_S, UTC):%Y-%m-%d}.zip"
        file = self._folder / name
        now = time.monotonic()
        if now - self._without.get(name, -AGAIN_S) < AGAIN_S or (day + 1) * DAY_S * 1_000_000 > now_us():
            return None
        if file.exists():
            return file
        try:
            self._fetch(f"data/spot/daily/trades/{symbol}/{name}", file)
        except (PipelineError, OSError) as error:
            self._without[name] = now
            log = self._log.info if isinstance(error, Refused) else self._log.warning
            log(events.REQUEST_FAILED, request=name, error=str(error), text="its trades are asked of REST")
            return None
        for older in self._folder.glob(f"{symbol}-trades-*.zip"):
            if older != file:
                older.unlink(missing_ok=True)
        return file

    def _fetch(self, path: str, file: Path) -> None:
        """Raises `Refused` where there is no such file, `WrongAnswer` where it does not match its checksum."""
        checksum = _SHA256.match(self._ask(f"{path}.CHECKSUM").content)
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
                    if not answer.content or (size and whole is None):
                        raise WrongAnswer(f"{path}: no answer to a range of bytes")
                    out.write(answer.content)
                    digest.update(answer.content)
                    size += len(answer.content)
                    total = int(whole[1]) if whole else size
                    if total > MAX_BYTES:
                        raise WrongAnswer(f"{path}: {total} bytes are no day of trades")
            if digest.hexdigest() != checksum[1].decode():
                raise WrongAnswer(f"{path} does not match its checksum")
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)

    def _ask(self, path: str, headers: dict[str, str] | None = None) -> requests.Response:
        url = f"{self._url}/{path}"

        def attempt() -> requests.Response:
            try:
                answer = abandonable(
                    lambda: self._session.get(url, headers=headers, timeout=TIMEOUT_S), self._stop, f"GET {path}"
                )
            except requests.RequestException as error:
                raise mapped(url, error) from None
            if answer.status_code == 404:
                raise Refused(f"{url}: there is no such file")
            if answer.status_code not in (200, 206):
                raise Unavailable(f"{url}: {answer.status_code}")
            return answer

        return asking(path, attempt, ATTEMPTS, self._stop, self._log)


class DayFiles:
    """The daily files of one symbol, read forwards by one walk."""

    def __init__(self, archive: Archive, symbol: str) -> None:
        self._archive, self._symbol = archive, symbol
        self._day: int | None = None
        self._rows: Iterator[TradeRow] = iter(())
        self._ahead: TradeRow | None = None

    def following(self, last: TradeRow) -> Iterator[list[TradeRow]]:
        """Trades that follow on `last` by id without a hole, to the end of its day; up to `ROWS` at once."""
        day = last.timestamp_us // 1_000_000 // DAY_S
        if day != self._day:
            file = self._archive.file(self._symbol, day)
            self._day, self._rows = day, rows_of(file, last.trade_id) if file else iter(())
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


def rows_of(file: Path, after_id: int = -1) -> Iterator[TradeRow]:
    """The trades of a daily file that can be stored and come after this one, ascending. A file that cannot be read
    further ends there."""
    newest, passed, odd = after_id, -1, 0
    try:
        with zipfile.ZipFile(file) as packed, packed.open(packed.namelist()[0]) as unpacked:
            lines = io.BufferedReader(unpacked)  # type: ignore[type-var]
            while line := lines.readline(MAX_LINE):
                # A walk that goes on in the middle of a day passes millions: 1.5 M lines/s, read whole they are 0.25 M.
                number = line.partition(b",")[0]
                if newest == after_id and number.isdigit() and passed < int(number) <= after_id:
                    passed = int(number)
                    continue
                row = parse.archive_row(line)
                if row is not None and row.trade_id > newest:
                    newest = row.trade_id
                    yield row
                    continue
                odd += 1
                if odd > MOST_ODD:
                    raise ValueError(f"more than {MOST_ODD} lines are no trades")
    except _UNREADABLE as error:
        get_logger().warning(
            events.REQUEST_FAILED,
            venue="binance",
            request=file.name,
            error=f"{type(error).__name__}: {error}",
            text="its trades are asked of REST",
        )
