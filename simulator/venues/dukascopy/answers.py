"""Dukascopy's JSON API: ticks, candles and instrument descriptions; months count from one, values are deltas.

Recorded answers (`recordings/dukascopy/jetta`) are given as they are; an hour that exists only as a bi5 file is
written in the same form (`{"timestamp":…,"multiplier":0.1,"ask":…,"bid":…,"times":[ms deltas],"asks":[…],…}`), with
bi5's volumes, which the vendor rounded. A running period is asked for with `?from=<ms>`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web

from simulator.market import Int
from simulator.tape import trimmed
from simulator.venues.dukascopy.files import PREFIX, DukascopyFiles
from simulator.venues.dukascopy.hours import INVENTED, Quotes, decode_bi5, invent_hour, price_factor

HOUR = timedelta(hours=1)
WIDTHS_MS = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000}


def _number(value: float) -> str:
    """Format a float as the vendor's Java does: 1.0E-5, 0.1, 1800000.0."""
    if value and abs(value) < 1e-3:
        digits, _, exponent = f"{value:e}".partition("e")
        return f"{float(digits)}E{int(exponent)}"
    return str(float(value))


def _deltas(values: Int) -> str:
    return "[" + ",".join(map(str, np.diff(values, prepend=values[:1]).tolist())) + "]"


def _body(fields: dict[str, str]) -> str:
    return "{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}"


def ticks_json(quotes: Quotes, start_ms: int, factor: int) -> str:
    """Return an answer of ticks; `start_ms` is what the quotes' milliseconds count from."""
    decimals = len(str(factor)) - 1
    none = len(quotes.ms) == 0
    volumes = (np.round(column * 1e6, 2).tolist() for column in (quotes.ask_volume, quotes.bid_volume))
    ask_volumes, bid_volumes = ("[" + ",".join(map(_number, column)) + "]" for column in volumes)
    times = "[" + ",".join(map(str, np.diff(quotes.ms, prepend=0).tolist())) + "]"
    return _body(
        {
            "timestamp": str(start_ms),
            "multiplier": _number(1 / factor),
            "ask": "null" if none else trimmed(int(quotes.ask[0]), decimals),
            "bid": "null" if none else trimmed(int(quotes.bid[0]), decimals),
            "times": times,
            "asks": _deltas(quotes.ask),
            "bids": _deltas(quotes.bid),
            "askVolumes": ask_volumes,
            "bidVolumes": bid_volumes,
        }
    )


def candles_json(times_ms: Int, prices: Int, volumes: Any, start_ms: int, width_ms: int, factor: int) -> str:
    """Return candles of one side. Periods without a quote are left out, which the time deltas (in periods) show."""
    decimals = len(str(factor)) - 1
    if not len(times_ms):
        names = ("open", "high", "low", "close")
        fields = {"timestamp": str(start_ms), "multiplier": _number(1 / factor), **dict.fromkeys(names, "null")}
        lists = ("times", "opens", "highs", "lows", "closes", "volumes")
        return _body(fields | {"shift": str(width_ms)} | dict.fromkeys(lists, "[]"))
    bucket = (times_ms - start_ms) // width_ms
    starts = np.flatnonzero(np.diff(bucket, prepend=-1))
    ends = np.append(starts[1:], len(bucket)) - 1
    columns = {
        "open": prices[starts],
        "high": np.maximum.reduceat(prices, starts),
        "low": np.minimum.reduceat(prices, starts),
        "close": prices[ends],
    }
    sums = np.round(np.add.reduceat(volumes, starts), 2).tolist()
    fields = {"timestamp": str(start_ms), "multiplier": _number(1 / factor)}
    fields |= {name: trimmed(int(column[0]), decimals) for name, column in columns.items()}
    times = "[" + ",".join(map(str, np.diff(bucket[starts], prepend=0).tolist())) + "]"
    fields |= {"shift": str(width_ms), "times": times}
    fields |= {f"{name}s": _deltas(column) for name, column in columns.items()}
    return _body(fields | {"volumes": "[" + ",".join(map(_number, sums)) + "]"})


class DukascopyJson:
    """HTTP handlers of the JSON API; the hours are those of the bi5 feed."""

    def __init__(self, files: DukascopyFiles) -> None:
        self.files, self.world = files, files.world
        self.folder = Path(self.world.config.dukascopy_json_folder)

    def routes(self) -> Sequence[web.RouteDef]:
        base = PREFIX + "/v1"
        return [
            web.get(base + "/ticks/{code}/{y}/{m}/{d}/{h}", self.ticks),
            web.get(base + "/ticks/{code}", self.running_ticks),
            web.get(base + "/candles/{width}/{code}/{side}/{period:[0-9/]+}", self.candles),
            web.get(base + "/candles/{width}/{code}/{side}", self.running_candles),
            web.get(base + "/instruments", self.instruments),
            web.get(base + "/instruments/{code}", self.instrument),
        ]

    @staticmethod
    def _symbol(code: str) -> str:
        return code.replace("-", "").replace(".", "")

    def _recorded(self, *words: str) -> web.Response | None:
        for suffix in ("", "-empty"):
            path = self.folder / ("-".join(words).replace("/", "-") + suffix + ".json")
            if path.is_file() and not self.world.faults.active("dukascopy", "corrected"):
                return web.Response(text=path.read_text(), content_type="application/json")
        return None

    @staticmethod
    def _answer(text: str) -> web.Response:
        return web.Response(text=text, content_type="application/json")

    async def ticks(self, request: web.Request) -> web.Response:
        info = request.match_info
        code, period = info["code"], [info[name] for name in "ymdh"]
        if recorded := self._recorded("ticks", code, *period):
            return recorded
        try:
            hour = datetime(*(int(number) for number in period), tzinfo=UTC)  # type: ignore[misc,arg-type]
        except ValueError:
            raise web.HTTPNotFound(text="Not Found") from None
        symbol = self._symbol(code)
        content = self.files.hour_bytes(symbol, hour)
        if content is None:
            raise web.HTTPNotFound(text="Not Found")
        start_ms = int(hour.timestamp() * 1000)
        return self._answer(ticks_json(decode_bi5(content), start_ms, price_factor(symbol)))

    def _running(self, request: web.Request) -> tuple[str, int, Quotes]:
        """Return the quotes from `?from=` to now; `ms` counts from there."""
        symbol = self._symbol(request.match_info["code"])
        now_ms = self.world.now_ns() // 1_000_000
        try:
            from_ms = int(request.query["from"])
        except (KeyError, ValueError):
            raise web.HTTPBadRequest(text="from is missing") from None
        if symbol not in INVENTED or symbol not in self.world.config.synthesize_instruments:
            raise web.HTTPNotFound(text="Not Found")
        first = max(from_ms, now_ms - 2 * 86_400_000) // 3_600_000
        parts = [(hour, self._running_hour(symbol, hour)) for hour in range(first, now_ms // 3_600_000 + 1)]
        ms = np.concatenate([part.ms + hour * 3_600_000 for hour, part in parts])
        keep = (ms >= from_ms) & (ms <= now_ms)
        names = ("ask", "bid", "ask_volume", "bid_volume")
        columns = [np.concatenate([getattr(part, name) for _, part in parts])[keep] for name in names]
        return symbol, from_ms, Quotes(ms[keep] - from_ms, *columns)

    def _running_hour(self, symbol: str, hour: int) -> Quotes:
        return decode_bi5(invent_hour(self.world.config.seed, symbol, hour * 3600) or b"")

    async def running_ticks(self, request: web.Request) -> web.Response:
        symbol, from_ms, quotes = self._running(request)
        return self._answer(ticks_json(quotes, from_ms, price_factor(symbol)))

    async def candles(self, request: web.Request) -> web.Response:
        info = request.match_info
        width, code, side = info["width"], info["code"], info["side"]
        period = info["period"].strip("/")
        if recorded := self._recorded("candles", width, code, side, period):
            return recorded
        try:
            numbers = [int(number) for number in period.split("/")]
            start = datetime(*[*numbers, 1, 1][:3], tzinfo=UTC)  # type: ignore[misc,arg-type]
            if len(numbers) != {"minute": 3, "hour": 2, "day": 1}[width] or side not in ("BID", "ASK"):
                raise ValueError(period)
        except (ValueError, KeyError):
            raise web.HTTPNotFound(text="Not Found") from None
        symbol = self._symbol(code)
        days = {"minute": 1, "hour": 31, "day": 366}[width]
        hours = [start + n * HOUR for n in range(days * 24)]
        same = {"minute": "%Y%m%d", "hour": "%Y%m", "day": "%Y"}[width]
        hours = [hour for hour in hours if hour.strftime(same) == start.strftime(same)]
        found = [(h, c) for h in hours if (c := self.files.hour_bytes(symbol, h)) is not None]
        if not found and not self._known(symbol):
            raise web.HTTPNotFound(text="Not Found")
        parts = [(int(hour.timestamp() * 1000), decode_bi5(content)) for hour, content in found]
        return self._answer(self._candles(symbol, side, parts, int(start.timestamp() * 1000), WIDTHS_MS[width]))

    async def running_candles(self, request: web.Request) -> web.Response:
        symbol, from_ms, quotes = self._running(request)
        width_ms = WIDTHS_MS.get(request.match_info["width"], 60_000)
        base_ms = from_ms // width_ms * width_ms
        side = request.match_info["side"]
        return self._answer(self._candles(symbol, side, [(from_ms, quotes)], base_ms, width_ms))

    @staticmethod
    def _candles(symbol: str, side: str, parts: list[tuple[int, Quotes]], start_ms: int, width_ms: int) -> str:
        empty = np.empty(0, dtype=np.int64)
        times = np.concatenate([empty, *(quotes.ms + at for at, quotes in parts)])
        prices = np.concatenate([empty, *(getattr(quotes, side.lower()) for _, quotes in parts)])
        volumes = np.concatenate([empty, *(getattr(quotes, f"{side.lower()}_volume") for _, quotes in parts)])
        return candles_json(times, prices, volumes, start_ms, width_ms, price_factor(symbol))

    # -- instruments --------------------------------------------------------------------------------------------------

    def _known(self, symbol: str) -> bool:
        return symbol in INVENTED or (self.files.folder / symbol).is_dir()

    def _description(self, symbol: str) -> dict[str, Any]:
        """Return the recorded description, or a recorded one of the same asset class under this name."""
        base, quote = symbol[:-3], symbol[-3:]
        factor = price_factor(symbol)
        for code in (f"{base}-{quote}", "BTC-USD" if factor == 10 else "EUR-USD"):
            path = self.folder / f"instrument-{code}.json"
            if path.is_file():
                described: dict[str, Any] = json.loads(path.read_text())
                if code == f"{base}-{quote}":
                    return described
                names = {"name": f"{base}/{quote}", "code": f"{base}-{quote}", "description": f"{base} vs {quote}"}
                scale = len(str(factor)) - 1
                return described | names | {"priceScale": scale, "pipValue": 10.0 ** -max(0, scale - 1)}
        raise web.HTTPNotFound(text="Not Found")

    async def instrument(self, request: web.Request) -> web.Response:
        symbol = self._symbol(request.match_info["code"])
        if not self._known(symbol):
            raise web.HTTPNotFound(text="Not Found")
        return web.json_response(self._description(symbol))

    async def instruments(self, request: web.Request) -> web.Response:
        symbols = sorted({*INVENTED, *(path.name for path in self.files.folder.iterdir() if path.is_dir())})
        return web.json_response({"instruments": [self._description(symbol) for symbol in symbols]})
