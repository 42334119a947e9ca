"""How the venue lists products, and its paths."""

from __future__ import annotations

from simulator.listing import Listing

LISTING = Listing(
    separator="/",
    decimals={"BTC": 1, "ETH": 2, "SOL": 2, "XRP": 5, "ADA": 6, "DOGE": 7, "DOT": 4, "LINK": 5, "LTC": 2, "AVAX": 2},
    time_step_ns=1,
    sockets={"KRAKEN_WS_URL": "/kraken/ws/v2"},
    pages={"KRAKEN_REST_URL": "/kraken/0/public"},
    candles="/kraken",
    session="kraken/ws_v2_trade_session.jsonl",
)
