"""Times as the venues write them."""

from __future__ import annotations

import time
from functools import lru_cache


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def rfc3339_us(ts_ns: int) -> str:
    """`2026-09-26T18:07:54.626190Z`: truncated to microseconds, always six digits (Kraken)."""
    seconds, rest = divmod(ts_ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1000:06d}Z"


def rfc3339_ns(ts_ns: int) -> str:
    """`2026-09-25T17:48:26.844359566Z`: nine digits (Kraken ohlc)."""
    seconds, rest = divmod(ts_ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest:09d}Z"


def rfc3339_go(ts_ns: int) -> str:
    """`2026-08-09T21:05:48.59377133Z`: up to nine digits without trailing zeros (Coinbase)."""
    seconds, rest = divmod(ts_ns, 1_000_000_000)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{_second(seconds)}{fraction}Z"
