"""What of it runs."""

from __future__ import annotations

from simulator.site import Site
from simulator.venues.binance.rest import BinanceRest, policy

SITE = Site(
    policies=lambda config: [policy()],
    parts=lambda world: [BinanceRest(world)],
)
