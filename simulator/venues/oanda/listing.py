"""How the venue lists products, and its paths."""

from __future__ import annotations

from simulator.listing import Listing

TOKEN, ACCOUNT = "simulated-token", "101-001-1234567-001"  # the only ones that it knows

LISTING = Listing(
    separator="_",
    decimals={"EUR": 5, "GBP": 5, "XAU": 3},
    lines={"OANDA_STREAM_URL": "/oanda/stream"},
    lets_in={"OANDA_TOKEN": TOKEN, "OANDA_ACCOUNT": ACCOUNT},
    pages={"OANDA_REST_URL": "/oanda/rest"},
)
