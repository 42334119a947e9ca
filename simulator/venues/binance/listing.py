"""How the venue lists products, and its paths."""

from __future__ import annotations

from simulator.listing import Listing

LISTING = Listing(
    separator="",
    decimals={"BTC": 2, "ETH": 2, "SOL": 2, "XRP": 4, "ADA": 4, "DOGE": 5, "DOT": 3, "LINK": 2, "LTC": 2, "AVAX": 2},
    offset=-0.00005,
    sockets={"BINANCE_WS_URL": "/binance/ws"},
    pages={"BINANCE_REST_URL": "/binance/api/v3", "BINANCE_ARCHIVE_URL": "/binance/archive"},
    candles="/binance",
)
