"""The order of test files under `pytest -n`."""

from __future__ import annotations

# Files that take longest, so that none of them is begun last while other workers have nothing left to do.
LONGEST = (
    "exchange_candles",
    "trade_repair",
    "judge",
    "supervision",
    "live_faults",
    "live_producers",
    "trade_windows",
    "exchange_candles_faults",
    "read_tiers",
    "kills",
    "dukascopy_truth",
    "dukascopy_empty",
    "dukascopy_follow",
    "silent_stop",
    "oanda",
    "binance",
    "writer_faults",
    "direct_kills",
    "dukascopy_kill",
    "dukascopy_feeds",
    "dukascopy_load",
    "stream_faults",
    "neighbours",
    "setup_packages",
    "database_faults",
    "deleted_rows",
    "secure_services",
    "watchdog",
    "journal",
)
