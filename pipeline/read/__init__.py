"""Stored data for notebooks: candles, trades and quotes of one instrument and interval as columns.

    from pipeline.read import candles, trades
    frame = candles("kraken", "BTC-USD", "1h", start="2026-01-01").pandas()

Trades and quotes come from the archive's files and from the tables, each row once, as of one moment. Prices and sizes
become float64, which is what statistics want; `exact=True` gives decimals instead. Times are UTC: datetime64[us] in
numpy, with a time zone in pandas, polars and Arrow. `start` is included, `end` is not.
"""

from pipeline.read.candles import candles, quote_candles
from pipeline.read.columns import Columns
from pipeline.read.lazy import scan_quotes, scan_trades
from pipeline.read.objects import trade_objects
from pipeline.read.request import Moment
from pipeline.read.ticks import quotes, trades

__all__ = [
    "Columns",
    "Moment",
    "candles",
    "quote_candles",
    "quotes",
    "scan_quotes",
    "scan_trades",
    "trade_objects",
    "trades",
]
