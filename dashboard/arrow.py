"""`/api/arrow`: candles, trades and quotes as an Arrow IPC stream, which pandas, Polars, DuckDB and others read.

    /api/arrow?venue=kraken&product=BTC-USD&kind=trades&from=1764115200&to=1764201600

`kind` is trades, quotes, or candles_1m ... candles_1d; `from` and `to` are seconds since 1970, `to` excluded; `exact=1`
gives decimal128 in place of float64. A span of ticks is a day at most, of candles 100,000 of them: ask for longer ones
piece by piece, or with `pipeline.read`, which needs no dashboard.
"""

from __future__ import annotations

import asyncio
from functools import partial

import pyarrow as pa
from aiohttp import web

from dashboard import parameters
from pipeline import read
from pipeline.core.errors import Unavailable, WrongUse
from pipeline.core.products import short
from pipeline.core.timeframes import TIMEFRAMES
from pipeline.core.times import DAY_US, from_us

CONTENT_TYPE = "application/vnd.apache.arrow.stream"
MOST_CANDLES = 100_000
# A day of the busiest pair has some 100 MB on its way.
AT_ONCE = 2
KINDS = ("trades", "quotes", *(f"candles_{name}" for name in TIMEFRAMES))


class Arrow:
    """The one route, and how many answers are being made."""

    def __init__(self) -> None:
        self._making = 0

    async def answer(self, request: web.Request) -> web.Response:
        """Raises `WrongUse` for a wrong name or span, `Unavailable` while others are answered."""
        venue, product = parameters.venue_and_product(request)
        kind = request.query.get("kind", "trades")
        if kind not in KINDS:
            raise WrongUse(f"{short(kind)} is not a valid kind of rows; choose from {', '.join(KINDS)}")
        begin, end = parameters.span(request)
        frame = kind.removeprefix("candles_")
        most = MOST_CANDLES * TIMEFRAMES[frame].width_us if frame in TIMEFRAMES else DAY_US
        if end - begin > most:
            raise WrongUse(f"a span of {kind} has {most // 1_000_000} s at most; ask for less, or use pipeline.read")
        if (exact := request.query.get("exact", "0")) not in ("0", "1"):
            raise WrongUse(f"`exact` must be 0 or 1, not {short(exact)}")
        if self._making >= AT_ONCE:
            raise Unavailable("too many requests are in progress; try again in a moment")
        if kind in ("trades", "quotes"):
            ask = partial(read.trades if kind == "trades" else read.quotes, venue, product)
        else:
            ask = partial(read.candles, venue, product, frame)
        rows = partial(ask, start=from_us(begin), end=from_us(end), exact=exact == "1")
        self._making += 1
        try:
            body = await asyncio.to_thread(lambda: _bytes(rows().arrow()))
        finally:
            self._making -= 1
        return web.Response(body=body, content_type=CONTENT_TYPE)


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
