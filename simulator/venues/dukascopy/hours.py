"""One hour of quotes: its bi5 bytes, and generated hours where none was recorded."""

from __future__ import annotations

import lzma
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from simulator.market import SECOND_NS, Float, Int, Product, key_of, uniform

_RECORD = np.dtype([("ms", ">u4"), ("ask", ">u4"), ("bid", ">u4"), ("ask_volume", ">f4"), ("bid_volume", ">f4")])
# The vendor's files carry exactly these parameters in their first five bytes (5d 00 00 40 00).
_FILTERS = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 22, "lc": 3, "lp": 0, "pb": 2}]
# symbol -> price factor, price level, quotes a second, trades on weekends
INVENTED: dict[str, tuple[int, float, float, bool]] = {
    "EURUSD": (100_000, 1.14, 1.5, False),
    "GBPUSD": (100_000, 1.32, 1.2, False),
    "USDJPY": (1_000, 148.0, 1.4, False),
    "XAUUSD": (1_000, 4100.0, 2.0, False),
    "BTCUSD": (10, 84000.0, 2.2, True),
    "ETHUSD": (10, 2690.0, 1.6, True),
}


@dataclass(frozen=True)
class Quotes:
    """One quote: milliseconds into the hour, prices as the vendor's integers, volumes in millions of units."""

    ms: Int
    ask: Int
    bid: Int
    ask_volume: Float
    bid_volume: Float


def decode_bi5(content: bytes) -> Quotes:
    """Decode the quotes of a bi5 hour; zero bytes give none."""
    rows = np.frombuffer(lzma.decompress(content) if content else b"", dtype=_RECORD)
    ms, ask, bid = (rows[name].astype(np.int64) for name in ("ms", "ask", "bid"))
    return Quotes(ms, ask, bid, rows["ask_volume"].astype(np.float64), rows["bid_volume"].astype(np.float64))


def encode_bi5(quotes: Quotes) -> bytes:
    """Encode quotes as bi5, with the size in the header as the vendor writes it."""
    rows = np.empty(len(quotes.ms), dtype=_RECORD)
    for name in _RECORD.names or ():
        rows[name] = getattr(quotes, name)
    if not len(rows):
        return b""
    body = lzma.compress(rows.tobytes(), format=lzma.FORMAT_ALONE, filters=_FILTERS)
    return body[:5] + len(rows.tobytes()).to_bytes(8, "little") + body[13:]


def price_factor(symbol: str) -> int:
    """Return the factor from a price to the vendor's integer."""
    if symbol in INVENTED:
        return INVENTED[symbol][0]
    if symbol.endswith("JPY") or "CMD" in symbol or "IDX" in symbol or symbol[:3] in ("XAU", "XAG"):
        return 1_000
    return 10 if symbol[:3] in ("BTC", "ETH", "LTC") else 100_000


def _closed(hour: datetime) -> bool:
    """Return whether forex trades: its week runs from Sunday to Friday 17:00 in New York."""
    there = hour.astimezone(ZoneInfo("America/New_York"))
    monday_based = there.weekday() + there.hour / 24
    return 4 + 17 / 24 <= monday_based < 6 + 17 / 24


@lru_cache(maxsize=512)
def invent_hour(seed: int, symbol: str, start_s: int) -> bytes | None:
    """Invent a plausible hour, the same for the same arguments. None if the market is closed or the symbol unknown."""
    if symbol not in INVENTED:
        return None
    factor, level, rate, weekends = INVENTED[symbol]
    if not weekends and _closed(datetime.fromtimestamp(start_s, UTC)):
        return None
    key = key_of(seed, "dukascopy", symbol, start_s)
    count = int(rate * 3600)
    drawn = uniform(key, np.arange(4 * count, dtype=np.int64)).reshape(4, count)
    gaps = 1 + np.floor(-np.log(1.0 - drawn[0]) * 3_500_000 / count).astype(np.int64)
    ms = np.cumsum(gaps)
    ms = ms[ms < 3_600_000]
    product = Product("dukascopy", symbol, symbol[:3], symbol[3:], 0, level=level * factor)
    mid = product.mid(seed, start_s * SECOND_NS + ms * 1_000_000)
    half = np.maximum(1.0, mid * 0.00001 * (1.0 + 3.0 * drawn[1][: len(ms)]))
    ask, bid = np.rint(mid + half).astype(np.int64), np.rint(mid - half).astype(np.int64)
    volumes = [np.round(0.1 + 5.0 * drawn[row][: len(ms)] ** 2, 2) for row in (2, 3)]
    return encode_bi5(Quotes(ms, ask, bid, volumes[0], volumes[1]))
