"""Query times of the candle views over 100 M quotes' worth of candles (generated: the views never touch the quotes)."""

from __future__ import annotations

import statistics
import time
from typing import Any, LiteralString

import psycopg

from bench.environment import Figures, Ground, say

QUOTES = 100_000_000
PER_MINUTE = 47  # GBPJPY in December 2012: 1,298,479 quotes in 27,500 minutes
INSTRUMENTS = 4
FRAMES = ("1m", "5m", "15m", "30m", "1h", "4h", "12h", "1d")
_FILL: LiteralString = """
    INSERT INTO {table}
    SELECT i, b, 1.1 + i, 1.2 + i, 1.0 + i, 1.15 + i, 1.11 + i, 1.21 + i, 1.01 + i, 1.16 + i, 900000, 900000, 0.01, %s,
           b, 0, b + INTERVAL '59 seconds', 0
    FROM generate_series(%s::int, %s::int) i,
         generate_series(TIMESTAMPTZ '2024-01-01', TIMESTAMPTZ '2024-01-01' + %s * INTERVAL '1 minute', %s::interval) b
"""
_MONTH: LiteralString = "bucket >= '2024-06-01' AND bucket < '2024-07-01'"
_DAY: LiteralString = "bucket >= '2024-06-05' AND bucket < '2024-06-06'"


def _fill(conn: psycopg.Connection[Any]) -> int:
    minutes = QUOTES // PER_MINUTE // INSTRUMENTS
    for number in range(1, INSTRUMENTS + 1):
        conn.execute(
            "INSERT INTO instruments (venue, product_id, asset_class, price_scale) VALUES ('bench', %s, 'forex', 5)",
            (f"AA{number}-USD",),
        )
    for table, ticks, width in (
        ("quote_candle_1m", PER_MINUTE, "1 minute"),
        ("quote_candle_1h", 60 * PER_MINUTE, "1 hour"),
    ):
        conn.execute(_FILL.replace("{table}", table), (ticks, 1, INSTRUMENTS, minutes - 1, width))
    conn.execute("ANALYZE")
    return minutes * INSTRUMENTS


def _median_ms(conn: psycopg.Connection[Any], query: str) -> float:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        conn.execute(query).fetchall()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def measure(ground: Ground) -> Figures:
    """Milliseconds, median of five, rows fetched: one day, one month, and everything of one instrument."""
    figures: Figures = {}
    with ground.tables() as place, place.connect() as conn:
        figures["minute_candles"] = _fill(conn)
        for view in ("quote_candles", "candles"):
            for frame in FRAMES:
                base = f"SELECT * FROM {view}_{frame} WHERE venue = 'bench' AND product_id = 'AA2-USD'"  # noqa: S608
                for name, condition in (("day", _DAY), ("month", _MONTH), ("all", "true")):
                    figures[f"{view}_{frame}_{name}_ms"] = _median_ms(conn, f"{base} AND {condition}")
                say(
                    f"views: {view}_{frame} day {figures[f'{view}_{frame}_day_ms']:.1f}, month "
                    f"{figures[f'{view}_{frame}_month_ms']:.1f}, all {figures[f'{view}_{frame}_all_ms']:.0f} ms"
                )
    return figures
