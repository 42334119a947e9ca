"""The folder feed: hours from bi5 files on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import Refused, Unavailable, WrongAnswer
from pipeline.core.runtime import now_us
from pipeline.core.text_files import file_bytes
from producers.dukascopy.feeds import bi5
from producers.dukascopy.feeds.clock import VenueClock
from producers.dukascopy.feeds.feed import Fetched
from producers.dukascopy.instruments import Instrument
from schemas.columns import Column


class FolderFeed:
    """A `Feed` of files named like those of the bi5 feed. A missing file proves nothing; a file of zero bytes is an
    empty hour."""

    free, running = True, False

    def __init__(self, folder: Path) -> None:
        self.name, self._folder = "folder", folder
        self.clock = VenueClock()

    def _file(self, instrument: Instrument, hour_us: int) -> Path:
        return self._folder / bi5.hour_path(instrument.symbol, hour_us)

    def at_hand(self, instrument: Instrument, hour_us: int) -> bool:
        return self._file(instrument, hour_us).is_file()

    def hour(self, instrument: Instrument, hour_us: int, *, fresh: bool = False) -> Fetched:
        fetched_at_us = now_us()
        quotes = bi5.parse_hour(self._content(self._file(instrument, hour_us)))
        instrument.check_price(quotes)
        return Fetched("ticks" if len(quotes) else "empty", quotes, self.name, fetched_at_us)

    def running_hour(self, instrument: Instrument, hour_us: int) -> Fetched:
        raise Refused("a folder has no running hour")

    def proven(self, instrument: Instrument, feed: str) -> bool:
        return True

    def prove(self, instrument: Instrument, feed: str, hours: Sequence[int]) -> bool:
        return True

    def has_alternative(self, instrument: Instrument) -> bool:
        return False

    def minutes(self, instrument: Instrument, day_us: int, side: str) -> Column:
        file = self._folder / bi5.minutes_path(instrument.symbol, day_us, side)
        try:
            return bi5.parse_minutes(self._content(file))
        except Unavailable as error:
            raise Refused(f"{file}: {error}") from None

    def _content(self, file: Path) -> bytes:
        """A folder that came from elsewhere may have anything under a file's name, such as a link to a device that
        never ends."""
        try:
            content = file_bytes(file, bi5.MAX_BYTES)
        except OSError as error:
            raise Unavailable(f"the file cannot be read ({error.strerror})") from None
        if len(content) > bi5.MAX_BYTES:
            raise WrongAnswer("the file is too large for an hour")
        return content

    def described(self, instrument: Instrument) -> Instrument:
        return instrument

    def wait_s(self, instrument: Instrument | None = None) -> float:
        return 0.0

    def learn_clock(self, instrument: Instrument) -> None:
        return
