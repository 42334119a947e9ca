"""What runs for this venue."""

from __future__ import annotations

from simulator.site import Site
from simulator.venues.kraken.rest import KrakenRest, policy
from simulator.venues.kraken.stream import KrakenStream

SITE = Site(
    policies=lambda config: [policy(config)],
    parts=lambda world: [KrakenRest(world)],
    stream=KrakenStream,
)
