"""Where an hour comes from: bi5 over HTTP, the JSON API, or a folder of bi5 files. One interface.

`hour()` gives what the source says, and raises when it says nothing: an hour is never called empty because a server
was busy. Both network feeds agree in time, bid and ask; bi5's sizes are rounded by the vendor.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from pipeline import events
from pipeline.errors import PipelineError, Refused, Unavailable, WrongAnswer, WrongUse
from pipeline.log import get_logger
from pipeline.process import now_us
from pipeline.settings import DukascopySettings
from producers.dukascopy import bi5, jetta
from producers.dukascopy.cache import Cache
from producers.dukascopy.instruments import Instrument
from producers.dukascopy.limiter import AdaptiveLimit
from producers.dukascopy.quotes import HOUR_US, NO_QUOTES, Quotes
from producers.dukascopy.web import Got, Web
from schemas.columns import Column

Status = Literal["ticks", "empty", "absent", "partial"]


@dataclass(frozen=True)
class Fetched:
    """What a feed says about one hour."""

    status: Status
    quotes: Quotes
    feed: str
    fetched_at_us: int


class Feed(Protocol):
    """`free`: asking costs nobody anything, and what it says is final. `running`: knows the hour that is not over."""

    name: str
    free: bool
    running: bool

    def hour(self, instrument: Instrument, hour_us: int) -> Fetched:
        """A finished hour. Raises `Unavailable` (and below), `Refused`, `BadData`, `Stopped`."""

    def running_hour(self, instrument: Instrument, hour_us: int) -> Fetched:
        """The hour so far."""

    def at_hand(self, instrument: Instrument, hour_us: int) -> bool:
        """Whether the hour can be had without a call."""

    def minutes(self, instrument: Instrument, day_us: int, side: str) -> Column:
        """The vendor's own minute candles of a day, see `bi5.parse_minutes`."""

    def described(self, instrument: Instrument) -> Instrument:
        """The instrument, completed by what the feed knows about it."""

    def wait_s(self) -> float:
        """Seconds until it makes sense to ask; 0: now."""


class FolderFeed:
    """Files as the bi5 feed names them, below one folder. A missing file says nothing, an empty one says "empty"."""

    free, running = True, False

    def __init__(self, folder: Path) -> None:
        self.name, self._folder = "folder", folder

    def _file(self, instrument: Instrument, hour_us: int) -> Path:
        return self._folder / bi5.hour_path(instrument.symbol, hour_us)

    def at_hand(self, instrument: Instrument, hour_us: int) -> bool:
        return self._file(instrument, hour_us).is_file()

    def hour(self, instrument: Instrument, hour_us: int) -> Fetched:
        file, fetched_at_us = self._file(instrument, hour_us), now_us()
        try:
            quotes = bi5.parse_hour(file.read_bytes())
        except OSError as error:
            raise Unavailable(f"{file}: {error.strerror}") from None
        except WrongAnswer as error:
            raise WrongAnswer(f"{file}: {error}") from None
        return Fetched("ticks" if len(quotes) else "empty", quotes, self.name, fetched_at_us)

    def running_hour(self, instrument: Instrument, hour_us: int) -> Fetched:
        raise Refused("a folder has no running hour")

    def minutes(self, instrument: Instrument, day_us: int, side: str) -> Column:
        file = self._folder / bi5.minutes_path(instrument.symbol, day_us, side)
        try:
            return bi5.parse_minutes(file.read_bytes())
        except OSError as error:
            raise Refused(f"{file}: {error.strerror}") from None

    def described(self, instrument: Instrument) -> Instrument:
        return instrument

    def wait_s(self) -> float:
        return 0.0


class _NetworkFeed:
    """What both network feeds do the same way: cache first, then the network, and keep what holds quotes."""

    free, running, compress = False, False, False
    name = ""

    def __init__(self, web: Web, cache: Cache) -> None:
        self.web, self._cache = web, cache

    def _path(self, instrument: Instrument, hour_us: int) -> str:
        raise NotImplementedError

    def _parse(self, body: bytes, instrument: Instrument, hour_us: int) -> Quotes:
        raise NotImplementedError

    def at_hand(self, instrument: Instrument, hour_us: int) -> bool:
        return self._cache.has(self.name, self._path(instrument, hour_us))

    def cached(self, instrument: Instrument, hour_us: int) -> Fetched | None:
        """The hour from the disk; None where it is not there or not readable any more."""
        kept = self._cache.get(self.name, self._path(instrument, hour_us))
        if kept is None:
            return None
        with contextlib.suppress(WrongAnswer):
            return Fetched("ticks", self._parse(kept[0], instrument, hour_us), self.name, kept[1])
        return None

    def hour(self, instrument: Instrument, hour_us: int) -> Fetched:
        found = self.cached(instrument, hour_us)
        return found if found is not None else self._asked(instrument, hour_us)

    def _asked(self, instrument: Instrument, hour_us: int) -> Fetched:
        path = self._path(instrument, hour_us)
        got = self.web.get(path)
        if got.body is None:
            return Fetched("absent", NO_QUOTES, self.name, got.fetched_at_us)
        quotes = self._understood(got, path, instrument, hour_us)
        if not len(quotes):
            return Fetched("empty", NO_QUOTES, self.name, got.fetched_at_us)
        self._cache.put(self.name, path, got.body, got.fetched_at_us, compress=self.compress)
        return Fetched("ticks", quotes, self.name, got.fetched_at_us)

    def _understood(self, got: Got, path: str, instrument: Instrument, hour_us: int) -> Quotes:
        try:
            return self._parse(got.body or b"", instrument, hour_us)
        except WrongAnswer as error:
            self.web.down(str(error))
            raise WrongAnswer(f"{self.name} {path}: {error}") from None

    def wait_s(self) -> float:
        return self.web.breaker.wait_s()


class Bi5Feed(_NetworkFeed):
    """`…/datafeed/EURUSD/2019/01/04/00h_ticks.bi5`."""

    name = "bi5"

    def _path(self, instrument: Instrument, hour_us: int) -> str:
        return bi5.hour_path(instrument.symbol, hour_us)

    def _parse(self, body: bytes, instrument: Instrument, hour_us: int) -> Quotes:
        return bi5.parse_hour(body)

    def running_hour(self, instrument: Instrument, hour_us: int) -> Fetched:
        raise Refused("the bi5 feed has no running hour")

    def minutes(self, instrument: Instrument, day_us: int, side: str) -> Column:
        got = self.web.get(bi5.minutes_path(instrument.symbol, day_us, side))
        if got.body is None:
            raise Refused("the vendor has no candles of this day")
        return bi5.parse_minutes(got.body)

    def described(self, instrument: Instrument) -> Instrument:
        return instrument


class JsonFeed(_NetworkFeed):
    """`…/v1/ticks/EUR-USD/2019/2/4/0`."""

    name, running, compress = "json", True, True

    def _path(self, instrument: Instrument, hour_us: int) -> str:
        return jetta.hour_path(instrument.code, hour_us)

    def _parse(self, body: bytes, instrument: Instrument, hour_us: int) -> Quotes:
        # Zero bytes are what the vendor sends for nothing at all; its JSON for an hour without a quote says so too.
        return jetta.parse_hour(body, hour_us, instrument.price_scale) if body else NO_QUOTES

    def running_hour(self, instrument: Instrument, hour_us: int) -> Fetched:
        got = self.web.get(jetta.running_path(instrument.code), {"from": hour_us // 1000})
        if not got.body:
            raise Refused("the vendor does not give the running hour of this instrument")
        quotes = jetta.parse_hour(got.body, hour_us, instrument.price_scale, running=True)
        return Fetched("partial", quotes, self.name, got.fetched_at_us)

    def minutes(self, instrument: Instrument, day_us: int, side: str) -> Column:
        got = self.web.get(jetta.minutes_path(instrument.code, day_us, side))
        if not got.body:
            raise Refused("the vendor has no candles of this day")
        return jetta.parse_minutes(got.body, day_us, instrument.price_scale)

    def described(self, instrument: Instrument) -> Instrument:
        """With holidays and first tick. Kept on disk for a day. Raises like `hour`."""
        path = jetta.instrument_path(instrument.code)
        kept = self._cache.get(self.name, path)
        body = kept[0] if kept and now_us() - kept[1] < 24 * HOUR_US else None
        if body is None:
            got = self.web.get(path)
            if not got.body:
                return instrument
            body = got.body
            self._cache.put(self.name, path, body, got.fetched_at_us, compress=True)
        told = jetta.parse_description(body)
        if told.price_scale != instrument.price_scale:
            get_logger().warning(
                events.PRODUCT_STALE, product=instrument.product_id, ours=instrument.price_scale,
                vendor=told.price_scale, text="price_scale differs from the vendor's description",
            )  # fmt: skip
        return replace(
            instrument,
            holidays_ms=instrument.holidays_ms + told.holidays_ms,
            first_tick_us=instrument.first_tick_us or told.first_tick_us,
        )


class AutoFeed:
    """The JSON feed, and bi5 while that one is down; says when it changes over."""

    free, running, name = False, True, "auto"

    def __init__(self, first: JsonFeed, second: Bi5Feed) -> None:
        self._feeds: tuple[JsonFeed | Bi5Feed, ...] = (first, second)
        self._json = first
        self._lock = threading.Lock()
        self._last: str = first.name

    def at_hand(self, instrument: Instrument, hour_us: int) -> bool:
        return any(feed.at_hand(instrument, hour_us) for feed in self._feeds)

    def hour(self, instrument: Instrument, hour_us: int) -> Fetched:
        for feed in self._feeds:
            if (kept := feed.cached(instrument, hour_us)) is not None:
                return kept
        failure: PipelineError = Unavailable("both feeds of Dukascopy are down")
        for feed in self._feeds:
            if feed.wait_s():
                continue
            try:
                found = feed.hour(instrument, hour_us)
            except PipelineError as error:
                failure = error
                if not feed.wait_s():
                    raise  # one bad answer is no reason to change over; the hour comes again
            else:
                self._say(feed.name)
                return found
        raise failure

    def _say(self, name: str) -> None:
        with self._lock:
            changed, self._last = self._last != name, name
        if changed:
            get_logger().warning(events.FEED_SWITCHED, feed=name, text=f"quotes now come from the {name} feed")

    def running_hour(self, instrument: Instrument, hour_us: int) -> Fetched:
        return self._json.running_hour(instrument, hour_us)

    def minutes(self, instrument: Instrument, day_us: int, side: str) -> Column:
        up = [feed for feed in self._feeds if not feed.wait_s()]
        return (up or [self._json])[0].minutes(instrument, day_us, side)

    def described(self, instrument: Instrument) -> Instrument:
        return self._json.described(instrument)

    def wait_s(self) -> float:
        return min(feed.wait_s() for feed in self._feeds)


def open_feed(settings: DukascopySettings, state_dir: Path, stop: threading.Event, *, use_cache: bool = True) -> Feed:
    """The feed that DUKASCOPY_FEED names. Raises `WrongUse`."""
    name = settings.feed.strip()
    cache = Cache(state_dir / "dukascopy" if settings.cache and use_cache else None)

    def web(feed: str, url: str) -> Web:
        limit = AdaptiveLimit(state_dir, f"dukascopy-{feed}", settings.max_rate, settings.retry_seconds)
        return Web(feed, url, limit, stop)

    if name in ("auto", "json", "bi5"):
        json, files = JsonFeed(web("json", settings.json_url), cache), Bi5Feed(web("bi5", settings.bi5_url), cache)
        return AutoFeed(json, files) if name == "auto" else json if name == "json" else files
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise WrongUse(f"DUKASCOPY_FEED: {name!r} is neither auto, json, bi5 nor a folder that exists.")
    return FolderFeed(folder)
