"""How the venue lists products, and its paths."""

from __future__ import annotations

from simulator.listing import Listing

LISTING = Listing(
    pages={"DUKASCOPY_BI5_URL": "/dukascopy/datafeed", "DUKASCOPY_JSON_URL": "/dukascopy/v1"},
)
