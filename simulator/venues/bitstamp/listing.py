"""How the venue lists products, and its paths."""

from __future__ import annotations

from simulator.listing import Listing

LISTING = Listing(
    separator="",
    decimals={"BTC": 0, "ETH": 1, "SOL": 4, "XRP": 5, "ADA": 5, "DOGE": 6, "DOT": 3, "LINK": 3, "LTC": 2, "AVAX": 2},
    offset=0.00007,
    rest_time_step_ns=1_000_000_000,
    id_step=64,  # more than products are listed
    sockets={"BITSTAMP_WS_URL": "/bitstamp/ws"},
    pages={"BITSTAMP_REST_URL": "/bitstamp/api/v2"},
)
