"""Binance's public archive: a zip of each finished day's trades and its checksum, with holes where a setting says so.

    51175358,17.80180000,5.69000000,101.29224200,1583709433583,True,True

Columns are id, price, quantity, quote quantity, time, buyer was maker, best match; no heading. Times are milliseconds
before 2025-01-01 and microseconds since. Ranges of bytes are given, as the venue's storage does.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from aiohttp import web

from simulator.market import SECOND_NS
from simulator.tape import Tape
from simulator.venues.binance.rest import PREFIX
from simulator.venues.binance.trades import NS_OF_MS, NS_OF_US, price_and_sizes
from simulator.world import World

DAY_NS = 86_400 * SECOND_NS
MICROSECONDS_SINCE_NS = 1_735_689_600 * SECOND_NS  # 2025-01-01
_NAME = re.compile(r"([A-Z0-9]+)-trades-(\d{4}-\d{2}-\d{2})\.zip(\.CHECKSUM)?")
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@lru_cache(maxsize=8)
def packed(tape: Tape, name: str, first: int, last: int, holes: tuple[tuple[int, int], ...]) -> bytes:
    """Return the zip with trades `first` to `last`, without those in `holes` (times in ns, the end excluded)."""
    lines = []
    for trade in tape.trades(first, last).rows():
        if any(start <= trade.ts_ns < end for start, end in holes):
            continue
        price, quantity, paid = price_and_sizes(tape, trade)
        at = trade.ts_ns // (NS_OF_US if trade.ts_ns >= MICROSECONDS_SINCE_NS else NS_OF_MS)
        lines.append(f"{trade.trade_id},{price},{quantity},{paid},{at},{not trade.buy},True\n")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        # A time of its own would make every file another one, and the checksum with it.
        file.writestr(zipfile.ZipInfo(f"{name}.csv"), "".join(lines), zipfile.ZIP_DEFLATED)
    return out.getvalue()


class BinanceArchive:
    """HTTP handler of the archive."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._holes: dict[str, tuple[tuple[int, int], ...]] = {}
        for symbol, holes in world.config.binance_archive_holes.items():
            spans = []
            for start, minutes in holes:
                begin = datetime.fromisoformat(start).replace(tzinfo=UTC)
                spans.append((_ns(begin), _ns(begin + timedelta(minutes=minutes))))
            self._holes[symbol] = tuple(spans)

    def routes(self) -> Sequence[web.RouteDef]:
        return [web.get(f"{PREFIX}/archive/data/spot/daily/trades/{{symbol}}/{{name}}", self.file)]

    async def file(self, request: web.Request) -> web.Response:
        match = _NAME.fullmatch(request.match_info["name"])
        tape = self.world.tape("binance", request.match_info["symbol"])
        if match is None or tape is None or match[1] != tape.product.symbol:
            return web.Response(status=404, text="Not Found")
        start_ns = _ns(datetime.fromisoformat(match[2]).replace(tzinfo=UTC))
        if start_ns + DAY_NS > self.world.now_ns():  # there from the next day on
            return web.Response(status=404, text="Not Found")
        first, last = tape.last_id_at(start_ns - 1) + 1, tape.last_id_at(start_ns + DAY_NS - 1)
        name = f"{match[1]}-trades-{match[2]}"
        # A day of a product takes a second to make, for which the streams do not wait.
        body = await asyncio.to_thread(packed, tape, name, first, last, self._holes.get(match[1], ()))
        if match[3]:
            return web.Response(text=f"{hashlib.sha256(body).hexdigest()}  {name}.zip\n")
        wanted = _RANGE.fullmatch(request.headers.get("Range", ""))
        if wanted is None:
            return web.Response(body=body, content_type="application/zip")
        begin, end = int(wanted[1]), min(int(wanted[2]), len(body) - 1)
        if begin > end:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(body)}"})
        headers = {"Content-Range": f"bytes {begin}-{end}/{len(body)}"}
        return web.Response(status=206, body=body[begin : end + 1], content_type="application/zip", headers=headers)


def _ns(at: datetime) -> int:
    return int(at.timestamp()) * SECOND_NS
