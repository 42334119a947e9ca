"""The network feeds: bi5 files and the JSON API. They agree in time, bid and ask; bi5's sizes are rounded."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace

from pipeline.core import events
from pipeline.core.errors import BadData, PipelineError, Refused, WrongAnswer
from pipeline.core.log import get_logger
from pipeline.core.runtime import now_us
from pipeline.core.times import HOUR_US, us_to_iso
from producers.dukascopy.feeds import bi5, json
from producers.dukascopy.feeds.cache import Cache
from producers.dukascopy.feeds.feed import Fetched
from producers.dukascopy.feeds.web import Got, Web
from producers.dukascopy.instruments import Instrument
from producers.dukascopy.quotes import NO_QUOTES, Quotes
from schemas.columns import Column

# Not longer than the time between the two looks that make an hour empty, so that they do not share one proof.
PROOF_HOLDS_S = 600.0
MISSED = 3  # consecutive hours that only the other feed has; after them the other feed is asked first
DOUBT_HOLDS_S = 900.0  # as long as the breaker's longest pause; quotes end it at once


class NetworkFeed:
    """Common part of both network feeds: cache first, then the network; answers with quotes are cached."""

    free, running, compress = False, False, False
    name = ""

    def __init__(self, web: Web, cache: Cache) -> None:
        self.web, self._cache = web, cache
        self.clock = web.clock
        # By symbol, monotonic: when quotes last came over the network, and when none came although some exist.
        self._proven_at: dict[str, float] = {}
        self._doubted_at: dict[str, float] = {}
        self._missed: dict[str, list[int]] = {}  # by symbol: consecutive hours that only the other feed had

    def _path(self, instrument: Instrument, hour_us: int) -> str:
        raise NotImplementedError

    def _parse(self, body: bytes, instrument: Instrument, hour_us: int) -> Quotes:
        raise NotImplementedError

    def at_hand(self, instrument: Instrument, hour_us: int) -> bool:
        return self._cache.has(self.name, self._path(instrument, hour_us))

    def cached(self, instrument: Instrument, hour_us: int) -> Fetched | None:
        """Return the hour from the disk; None if it is not there or unreadable."""
        kept = self._cache.get(self.name, self._path(instrument, hour_us))
        if kept is None:
            return None
        with contextlib.suppress(WrongAnswer, BadData):
            return Fetched("ticks", self._read(kept[0], instrument, hour_us), self.name, kept[1], kept=True)
        return None

    def hour(self, instrument: Instrument, hour_us: int, *, fresh: bool = False) -> Fetched:
        found = None if fresh else self.cached(instrument, hour_us)
        return found if found is not None else self.asked(instrument, hour_us)

    def _read(self, body: bytes, instrument: Instrument, hour_us: int) -> Quotes:
        quotes = self._parse(body, instrument, hour_us)
        instrument.check_price(quotes)
        return quotes

    def asked(self, instrument: Instrument, hour_us: int) -> Fetched:
        """Request the hour over the network, bypassing the disk."""
        path = self._path(instrument, hour_us)

        def understand(got: Got) -> Fetched:
            if got.body is None:
                return Fetched("absent", NO_QUOTES, self.name, got.fetched_at_us)
            quotes = self._read(got.body, instrument, hour_us)
            if not len(quotes):
                return Fetched("empty", NO_QUOTES, self.name, got.fetched_at_us)
            self._cache.put(self.name, path, got.body, got.fetched_at_us, compress=self.compress)
            return Fetched("ticks", quotes, self.name, got.fetched_at_us)

        found = self.web.get(path, instrument.symbol, understand)
        if found.status == "ticks":
            self._gave_quotes(instrument)
        return found

    def _gave_quotes(self, instrument: Instrument) -> None:
        self._proven_at[instrument.symbol] = time.monotonic()
        self._doubted_at.pop(instrument.symbol, None)
        self._missed.pop(instrument.symbol, None)

    def missed(self, instrument: Instrument, hour_us: int) -> None:
        """Record that this feed answered "not found" for an hour that another feed has."""
        hours = self._missed.setdefault(instrument.symbol, [])
        hours.append(hour_us)
        if len(hours) >= MISSED:
            self._doubt(instrument, hours)
            self._missed.pop(instrument.symbol, None)

    def _doubt(self, instrument: Instrument, hours: Sequence[int]) -> None:
        self._doubted_at[instrument.symbol] = time.monotonic()
        get_logger().warning(
            events.FEED_UNPROVEN,
            product=instrument.product_id,
            feed=self.name,
            hours=[us_to_iso(h) for h in hours],
            text="the feed returns no quotes even for these hours, so its empty answers are not believed",
        )

    def proven(self, instrument: Instrument, feed: str) -> bool:
        at = self._proven_at.get(instrument.symbol)
        return at is not None and time.monotonic() - at < PROOF_HOLDS_S

    def doubted(self, instrument: Instrument) -> bool:
        """Whether it recently failed to return quotes of hours that have some, and has returned none since."""
        at = self._doubted_at.get(instrument.symbol)
        return at is not None and time.monotonic() - at < DOUBT_HOLDS_S

    def prove(self, instrument: Instrument, feed: str, hours: Sequence[int]) -> bool:
        if self.doubted(instrument) or self.wait_s():
            return False
        for hour_us in hours:
            with contextlib.suppress(PipelineError):
                if len(self.asked(instrument, hour_us).quotes):
                    return True
        self._doubt(instrument, hours)
        return False

    def has_alternative(self, instrument: Instrument) -> bool:
        return False

    def wait_s(self, instrument: Instrument | None = None) -> float:
        return self.web.wait_s(instrument.symbol if instrument else None)

    def learn_clock(self, instrument: Instrument) -> None:
        with contextlib.suppress(PipelineError):
            self.web.get(self._path(instrument, now_us() // HOUR_US * HOUR_US), instrument.symbol, lambda got: None)


class Bi5Feed(NetworkFeed):
    """`…/datafeed/EURUSD/2019/01/04/00h_ticks.bi5`."""

    name = "bi5"

    def _path(self, instrument: Instrument, hour_us: int) -> str:
        return bi5.hour_path(instrument.symbol, hour_us)

    def _parse(self, body: bytes, instrument: Instrument, hour_us: int) -> Quotes:
        # The file does not say its scale, so a wrong one would go unnoticed.
        if instrument.vendor_scale not in (None, instrument.price_scale):
            raise BadData(
                "scale",
                f"the vendor's prices have {instrument.vendor_scale} decimals, ours {instrument.price_scale}; set "
                "price_scale in DUKASCOPY_INSTRUMENTS_FILE.",
            )
        return bi5.parse_hour(body)

    def running_hour(self, instrument: Instrument, hour_us: int) -> Fetched:
        raise Refused("the bi5 feed has no running hour")

    def minutes(self, instrument: Instrument, day_us: int, side: str) -> Column:
        def understand(got: Got) -> Column:
            if got.body is None:
                raise Refused("the vendor has no candles of this day")
            return bi5.parse_minutes(got.body)

        return self.web.get(bi5.minutes_path(instrument.symbol, day_us, side), instrument.symbol, understand)

    def described(self, instrument: Instrument) -> Instrument:
        return instrument


class JsonFeed(NetworkFeed):
    """`…/v1/ticks/EUR-USD/2019/2/4/0`."""

    name, running, compress = "json", True, True

    def _path(self, instrument: Instrument, hour_us: int) -> str:
        return json.hour_path(instrument.code, hour_us)

    def _parse(self, body: bytes, instrument: Instrument, hour_us: int) -> Quotes:
        # The vendor sends zero bytes, or JSON with empty lists, for an hour without quotes.
        return json.parse_hour(body, hour_us, instrument.price_scale) if body else NO_QUOTES

    def running_hour(self, instrument: Instrument, hour_us: int) -> Fetched:
        def understand(got: Got) -> Fetched:
            if not got.body:
                raise Refused("the vendor does not give the running hour of this instrument")
            quotes = json.parse_hour(got.body, hour_us, instrument.price_scale, running=True)
            instrument.check_price(quotes)
            return Fetched("partial", quotes, self.name, got.fetched_at_us)

        found = self.web.get(
            json.running_path(instrument.code), instrument.symbol, understand, {"from": hour_us // 1000}
        )
        if len(found.quotes):
            self._gave_quotes(instrument)
        return found

    def minutes(self, instrument: Instrument, day_us: int, side: str) -> Column:
        def understand(got: Got) -> Column:
            if not got.body:
                raise Refused("the vendor has no candles of this day")
            return json.parse_minutes(got.body, day_us, instrument.price_scale)

        return self.web.get(json.minutes_path(instrument.code, day_us, side), instrument.symbol, understand)

    def described(self, instrument: Instrument) -> Instrument:
        """Add holidays and first tick. The description is kept on disk for a day. Raises like `hour`."""
        told = self._description(instrument)
        if told is None:
            return instrument
        if told.price_scale != instrument.price_scale:
            get_logger().warning(
                events.SCALE_DIFFERS,
                product=instrument.product_id,
                ours=instrument.price_scale,
                vendor=told.price_scale,
                text="price_scale differs from the vendor's; see DUKASCOPY_INSTRUMENTS_FILE",
            )
        return replace(
            instrument,
            vendor_scale=told.price_scale,
            holidays_ms=instrument.holidays_ms + told.holidays_ms,
            vendor_first_us=None if instrument.first_tick_us else told.first_tick_us,
        )

    def _description(self, instrument: Instrument) -> json.Description | None:
        path = json.instrument_path(instrument.code)
        kept = self._cache.get(self.name, path)
        if kept and abs(now_us() - kept[1]) < 24 * HOUR_US:
            with contextlib.suppress(WrongAnswer):
                return json.parse_description(kept[0], now_us())

        def understand(got: Got) -> json.Description | None:
            if not got.body:
                return None
            told = json.parse_description(got.body, got.fetched_at_us)
            self._cache.put(self.name, path, got.body, got.fetched_at_us, compress=True)
            return told

        return self.web.get(path, instrument.symbol, understand)
