"""`python -m bench.read_archive`: read the year of EUR-USD in the archive in three ways; the seconds as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from bench.environment import Figures
from pipeline.duckdb import connect
from pipeline.read import quotes

CANDLES = """
    SELECT make_timestamptz(epoch_us(ts) // 60_000_000 * 60_000_000) AS bucket, first(bid ORDER BY ts, seq) AS open,
           max(bid) AS high, min(bid) AS low, last(bid ORDER BY ts, seq) AS close, sum(bid_size) AS volume,
           count(*) AS ticks
    FROM quotes WHERE venue = 'dukascopy' AND product_id = 'EUR-USD' GROUP BY 1 ORDER BY 1"""
"""As in docs/archive.md."""


def main() -> None:
    duck = connect()
    figures: Figures = {}
    year: dict[str, Any] = {"start": "2019-01-01", "end": "2020-01-01"}
    figures |= timed("read", lambda: quotes("dukascopy", "EUR-USD", **year))
    figures |= timed("read_exact", lambda: quotes("dukascopy", "EUR-USD", **year, exact=True))
    figures |= timed("candles", lambda: duck.execute(CANDLES).fetchnumpy())
    print(json.dumps(figures))


def timed(name: str, read: Callable[[], Any]) -> Figures:
    """Return wall and processor seconds of a call."""
    cpu, began = time.process_time(), time.perf_counter()
    read()
    return {f"{name}_s": time.perf_counter() - began, f"{name}_cpu_s": time.process_time() - cpu}


if __name__ == "__main__":
    main()
