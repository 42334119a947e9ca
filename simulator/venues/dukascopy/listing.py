"""How it lists products, and where it is found."""

from __future__ import annotations

from simulator.listing import Listing

LISTING = Listing(
    pages={"DUKASCOPY_BI5_URL": "/dukascopy/datafeed", "DUKASCOPY_JSON_URL": "/dukascopy/v1"},
)
