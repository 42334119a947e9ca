"""How the venue lists products, and its paths."""

from __future__ import annotations

from simulator.listing import Listing

LISTING = Listing(
    separator="_",
    decimals={"EUR": 5, "GBP": 5, "XAU": 3},
    lines={"OANDA_STREAM_URL": "/oanda/stream"},
    pages={"OANDA_REST_URL": "/oanda/rest"},
)
