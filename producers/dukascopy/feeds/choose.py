"""Open the configured feed; `auto` combines two feeds, each a fallback for the other."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.core import events
from pipeline.core.errors import BadData, PipelineError, Refused, Unavailable, WrongAnswer, WrongUse
from pipeline.core.log import get_logger
from producers.dukascopy.feeds.cache import Cache
from producers.dukascopy.feeds.clock import VenueClock
from producers.dukascopy.feeds.feed import Feed, Fetched, reason
from producers.dukascopy.feeds.folder import FolderFeed
from producers.dukascopy.feeds.limiter import AdaptiveLimit
from producers.dukascopy.feeds.network import Bi5Feed, JsonFeed
from producers.dukascopy.feeds.web import Web
from producers.dukascopy.instruments import Instrument
from schemas.columns import Column
from venues.dukascopy.settings import DukascopySettings


class AutoFeed:
    """The JSON feed, with bi5 as fallback while JSON is down or doubted. Logs every switch."""

    free, running, name = False, True, "auto"

    def __init__(self, first: JsonFeed, second: Bi5Feed) -> None:
        self._feeds: tuple[JsonFeed | Bi5Feed, ...] = (first, second)
        self._json = first
        self._named = {feed.name: feed for feed in self._feeds}
        self.clock = first.clock
        self._lock = threading.Lock()
        self._last: dict[str, str] = {}  # by symbol

    def at_hand(self, instrument: Instrument, hour_us: int) -> bool:
        return any(feed.at_hand(instrument, hour_us) for feed in self._feeds)

    def hour(self, instrument: Instrument, hour_us: int, *, fresh: bool = False) -> Fetched:
        """Return the answer of the first feed that has one. An hour is absent (404) only if every feed that answers
        says so; if none has it, the error lists the reasons of all."""
        for feed in self._feeds:
            if not fresh and (kept := feed.cached(instrument, hour_us)) is not None:
                return kept
        absent: dict[str, Fetched] = {}
        failures: dict[str, PipelineError] = {}
        for feed in sorted(self._feeds, key=lambda one: one.doubted(instrument)):
            if feed.wait_s(instrument):
                if not feed.wait_s():
                    failures[feed.name] = WrongAnswer("paused after unreadable answers")
                continue
            try:
                found = feed.asked(instrument, hour_us)
            except PipelineError as error:
                if isinstance(error, BadData) and error.reason == "scale":
                    raise  # it affects the other feed's integers too, where it cannot be noticed
                failures[feed.name] = error
                continue
            if found.status == "absent":
                absent[feed.name] = found
                continue
            if found.status == "ticks":
                for name in absent:
                    self._named[name].missed(instrument, hour_us)
            self._log_switch(instrument, feed.name)
            return found
        despite = {name: reason(error) for name, error in failures.items() if isinstance(error, (WrongAnswer, BadData))}
        silent = any(
            name not in despite and not isinstance(error, Refused) and not self._named[name].wait_s()
            for name, error in failures.items()
        )
        if absent and not silent:
            return replace(next(iter(absent.values())), despite=despite)
        raise _combined(failures, absent)

    def _log_switch(self, instrument: Instrument, name: str) -> None:
        with self._lock:
            before = self._last.get(instrument.symbol, self._json.name)
            self._last[instrument.symbol] = name
        if before != name:
            get_logger().warning(
                events.FEED_SWITCHED,
                product=instrument.product_id,
                feed=name,
                text=f"quotes now come from the {name} feed",
            )

    def proven(self, instrument: Instrument, feed: str) -> bool:
        return self._named[feed].proven(instrument, feed)

    def prove(self, instrument: Instrument, feed: str, hours: Sequence[int]) -> bool:
        return self._named[feed].prove(instrument, feed, hours)

    def has_alternative(self, instrument: Instrument) -> bool:
        return any(not feed.doubted(instrument) and not feed.wait_s(instrument) for feed in self._feeds)

    def running_hour(self, instrument: Instrument, hour_us: int) -> Fetched:
        return self._json.running_hour(instrument, hour_us)

    def minutes(self, instrument: Instrument, day_us: int, side: str) -> Column:
        failures: dict[str, PipelineError] = {}
        for feed in sorted(self._feeds, key=lambda one: one.wait_s(instrument) > 0):
            try:
                return feed.minutes(instrument, day_us, side)
            except PipelineError as error:
                failures[feed.name] = error
        raise _combined(failures, ())

    def described(self, instrument: Instrument) -> Instrument:
        return self._json.described(instrument)

    def wait_s(self, instrument: Instrument | None = None) -> float:
        return min(feed.wait_s(instrument) for feed in self._feeds)

    def learn_clock(self, instrument: Instrument) -> None:
        for feed in self._feeds:
            if self.clock.vendor_us() is None:
                feed.learn_clock(instrument)


def _combined(failures: Mapping[str, PipelineError], absent: Iterable[str]) -> PipelineError:
    """Combine the errors of all feeds into one, retryable if any of them is."""
    if not failures:
        return Unavailable("both feeds of Dukascopy are down")
    reasons = [f"{name}: {reason(error)}" for name, error in failures.items()]
    text = "; ".join([*reasons, *(f"{name}: not found (404)" for name in absent)])
    if any(error.retryable for error in failures.values()):
        return Unavailable(text)
    bad = next((error for error in failures.values() if isinstance(error, BadData)), None)
    return BadData(bad.reason, text) if bad else Refused(text)


def open_feed(
    settings: DukascopySettings,
    state_dir: Path,
    stop: threading.Event,
    *,
    read_cache: bool = True,
    called: str = "DUKASCOPY_FEED",
) -> Feed:
    """Open the feed named by DUKASCOPY_FEED, or by the option `called`. Raises `WrongUse`."""
    name = settings.feed.strip()
    clock = VenueClock()
    cache = Cache(state_dir / "dukascopy" if settings.cache else None, read=read_cache)

    def web(feed: str, url: str) -> Web:
        limit = AdaptiveLimit(
            state_dir,
            f"dukascopy-{feed}",
            settings.max_rate,
            settings.retry_seconds,
            start_rate=settings.start_rate,
        )
        return Web(feed, url, limit, stop, clock)

    if name in ("auto", "json", "bi5"):
        json, files = JsonFeed(web("json", settings.json_url), cache), Bi5Feed(web("bi5", settings.bi5_url), cache)
        return AutoFeed(json, files) if name == "auto" else json if name == "json" else files
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise WrongUse(f"{called}: {name!r} is neither auto, json or bi5 nor an existing folder.")
    return FolderFeed(folder)
