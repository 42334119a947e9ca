"""Parse the files of the bi5 feed: fixed-size records compressed by LZMA. Pure functions, no object per tick.

An hour (`…/EURUSD/2019/01/04/00h_ticks.bi5`, months count from zero) is 20 bytes a quote, big-endian `>3I2f`:
milliseconds in the hour, ask, bid (integers), ask size, bid size (float32, millions of units). A file of minute
candles (`…/04/BID_candles_min_1.bi5`) is 24 bytes a candle, `>5If`: seconds in the day, open, close, low, high, volume.
"""

from __future__ import annotations

import lzma
from datetime import UTC, datetime

import numpy as np

from pipeline.core.errors import WrongAnswer
from producers.dukascopy.quotes import NO_QUOTES, Quotes, judged, units_of_millions, without_needless_zeros

_TICK = np.dtype([("ms", ">u4"), ("ask", ">u4"), ("bid", ">u4"), ("ask_size", ">f4"), ("bid_size", ">f4")])
_CANDLE = np.dtype(
    [("second", ">u4"), ("open", ">u4"), ("close", ">u4"), ("low", ">u4"), ("high", ">u4"), ("volume", ">f4")]
)
# The busiest hours known have 0.3 M quotes, 6 MB; more than 0.8 M (233 a second) is not an hour. A few kB of LZMA can
# expand to gigabytes, so this limits the decompressed size.
MAX_BYTES = 16 << 20
# The vendor's dictionary is 4 MB; files recompressed with `xz -9` need 65 MB to decompress.
MAX_MEMORY = 80 << 20


def hour_path(symbol: str, hour_us: int) -> str:
    """Path of an hour: `EURUSD/2019/01/04/00h_ticks.bi5` for 2019-02-04 00:00."""
    at = datetime.fromtimestamp(hour_us // 1_000_000, UTC)
    return f"{symbol}/{at.year:04d}/{at.month - 1:02d}/{at.day:02d}/{at.hour:02d}h_ticks.bi5"


def minutes_path(symbol: str, day_us: int, side: str) -> str:
    """Path of a day's minute candles: `EURUSD/2019/01/04/BID_candles_min_1.bi5` for 2019-02-04."""
    at = datetime.fromtimestamp(day_us // 1_000_000, UTC)
    return f"{symbol}/{at.year:04d}/{at.month - 1:02d}/{at.day:02d}/{side}_candles_min_1.bi5"


def unpacked(body: bytes) -> bytes:
    """Decompress an LZMA "alone" file. Raises `WrongAnswer` for anything else, and for a truncated file."""
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MAX_MEMORY)
    try:
        content = unpacker.decompress(body, MAX_BYTES)
    except (lzma.LZMAError, MemoryError):
        raise WrongAnswer(f"not an LZMA file (it starts with {body[:8].hex(' ')})") from None
    if not unpacker.eof:
        raise WrongAnswer("a truncated LZMA file" if len(content) < MAX_BYTES else "more data than an hour can hold")
    if unpacker.unused_data:
        raise WrongAnswer("an LZMA file with trailing bytes")
    return content


def parse_hour(body: bytes) -> Quotes:
    """Parse an hour file; zero bytes are no quotes. Prices stay the file's integers. Raises `WrongAnswer`."""
    if not body:
        return NO_QUOTES
    content = unpacked(body)
    if len(content) % _TICK.itemsize:
        raise WrongAnswer(f"{len(content)} bytes are not whole records of {_TICK.itemsize}")
    rows = np.frombuffer(content, dtype=_TICK)
    offset_ms = rows["ms"].astype(np.int64)
    sizes = [units_of_millions(rows[name].astype(np.float32)) for name in ("bid_size", "ask_size")]
    bid_size, ask_size, scale = without_needless_zeros(sizes[0], sizes[1], 2)
    bid, ask = rows["bid"].astype(np.int32).astype(np.int64), rows["ask"].astype(np.int32).astype(np.int64)
    return judged(Quotes(offset_ms, bid, ask, bid_size, ask_size, scale)).in_order()


def parse_minutes(body: bytes) -> np.ndarray:
    """Parse the minute candles of one side and day into rows of minute, open, high, low, close (integers), volume in
    hundredths of a unit; minutes without trading (volume 0) are omitted. Raises `WrongAnswer`."""
    content = unpacked(body) if body else b""
    if len(content) % _CANDLE.itemsize:
        raise WrongAnswer(f"{len(content)} bytes are not whole candles of {_CANDLE.itemsize}")
    rows = np.frombuffer(content, dtype=_CANDLE)
    rows = rows[rows["volume"] > 0]
    prices = [rows[name].astype(np.int64) for name in ("open", "high", "low", "close")]
    return np.stack([rows["second"].astype(np.int64) // 60, *prices, units_of_millions(rows["volume"].astype("f4"))])
