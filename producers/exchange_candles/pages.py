"""How far an answer reaches. Pure functions; times in µs."""

from __future__ import annotations

from producers.exchange_candles.exchange import GRACE_US, Page

# A closed candle that is not there yet may still come; later than this it does not exist.
SETTLE_US = 120_000_000


def closed_end_us(now_us: int, granularity_s: int) -> int:
    """The end of the last candle that is surely closed."""
    width = granularity_s * 1_000_000
    return (now_us - GRACE_US) // width * width


def calls_needed(from_us: int, to_us: int, granularity_s: int, page_size: int) -> int:
    """Calls to fetch `[from, to)` at full pages."""
    candles = -(-(to_us - from_us) // (granularity_s * 1_000_000))
    return -(-candles // page_size)


def wanted(from_us: int, to_us: int, granularity_s: int, page_size: int) -> int:
    """How many candles to ask for: a full page, or what is left and the running candle."""
    return min(page_size, (to_us - from_us) // (granularity_s * 1_000_000) + 1)


def covered_to_us(page: Page, from_us: int, limit: int, granularity_s: int) -> int:
    """Up to where the answer to "`limit` candles from `from_us`" says everything; never less than `from_us`.

    Exchanges answer in two ways: with the first candles from a moment on, whatever gaps there are, or with the candles
    of a window, of which some may be missing. And some give fewer than asked without saying so. So an answer with
    candles reaches to the end of its last one, an empty one to the end of the window; never into the running candle,
    nor past one that may still come.
    """
    width = granularity_s * 1_000_000
    if page.rows:
        end = int(page.rows[-1]["bucket_us"]) + width
    else:
        end = min(from_us + limit * width, page.asked_at_us - SETTLE_US)
    running = next((row["bucket_us"] for row in page.rows if not row["final"]), end)
    return max(from_us, min(end, running, closed_end_us(page.asked_at_us, granularity_s)))
