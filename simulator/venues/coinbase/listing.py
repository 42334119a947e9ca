"""How the venue lists products, and its paths."""

from __future__ import annotations

from simulator.listing import Listing

LISTING = Listing(
    decimals={"BTC": 2, "ETH": 2, "SOL": 2, "XRP": 4, "ADA": 4, "DOGE": 5, "DOT": 3, "LINK": 3, "LTC": 2, "AVAX": 2},
    offset=0.00006,
    sockets={"COINBASE_WS_URL": "/coinbase/ws"},
    pages={"COINBASE_REST_URL": "/coinbase/exchange"},
    candles="/coinbase/api",
    session="coinbase/advanced_trade_session_10s.jsonl",
)
