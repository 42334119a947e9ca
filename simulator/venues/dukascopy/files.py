"""Dukascopy's classic feed: hour files and candle files from a folder of recordings; months count from zero."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from simulator.market import SECOND_NS
from simulator.rest import Policy
from simulator.venues.dukascopy.hours import Quotes, decode_bi5, encode_bi5, invent_hour
from simulator.world import World

PREFIX = "/dukascopy"
_HOUR = re.compile(r"^([A-Z0-9]+)/(\d{4})/(\d\d)/(\d\d)/(\d\d)h_ticks\.bi5$")
_CANDLES = re.compile(r"^[A-Z0-9]+/\d{4}(/\d\d){0,2}/(BID|ASK)_candles_(min|hour|day)_1\.bi5$")


def policy() -> Policy:
    """Allow everything: no limit is published. The `throttle` fault sets one."""
    return Policy("dukascopy", PREFIX, lambda: web.Response(status=503, text="Service Unavailable"))


class DukascopyFiles:
    """The vendor's hours: recorded ones, and invented ones of the recent past where configured."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.folder = Path(world.config.dukascopy_folder)

    def routes(self) -> Sequence[web.RouteDef]:
        return [web.get(PREFIX + "/datafeed/{path:.+}", self.file)]

    def hour_bytes(self, symbol: str, hour: datetime) -> bytes | None:
        """Return the hour's bi5 file: zero bytes if it has no quote, None if there is no file."""
        name = f"{symbol}/{hour.year:04d}/{hour.month - 1:02d}/{hour.day:02d}/{hour.hour:02d}h_ticks.bi5"
        path = self.folder / name
        content = path.read_bytes() if path.is_file() else self._invented(symbol, hour)
        if content and self.world.faults.active("dukascopy", "corrected", symbol, name):
            old = decode_bi5(content)
            content = encode_bi5(Quotes(old.ms, old.ask + 1, old.bid + 1, old.ask_volume, old.bid_volume))
        return content

    def _invented(self, symbol: str, hour: datetime) -> bytes | None:
        config, now_s = self.world.config, self.world.now_ns() / SECOND_NS
        age_s = now_s - hour.timestamp()
        if symbol not in config.synthesize_instruments or not 3600 <= age_s <= config.synthesize_hours * 3600:
            return None
        return invent_hour(config.seed, symbol, int(hour.timestamp()))

    async def file(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        content: bytes | None = None
        if match := _HOUR.match(path):
            symbol, year, month, day, hour = match.groups()
            try:
                at = datetime(int(year), int(month) + 1, int(day), int(hour), tzinfo=UTC)
            except ValueError:
                raise web.HTTPNotFound(text="Not Found") from None
            content = self.hour_bytes(symbol, at)
        elif _CANDLES.match(path) and (self.folder / path).is_file():
            content = (self.folder / path).read_bytes()
        if content is None:
            raise web.HTTPNotFound(text="Not Found")
        return web.Response(body=content, content_type="application/octet-stream")
