"""What runs for this venue."""

from __future__ import annotations

from simulator.site import Site
from simulator.venues.bitstamp.rest import BitstampRest, policy
from simulator.venues.bitstamp.stream import BitstampStream

SITE = Site(
    policies=lambda config: [policy()],
    parts=lambda world: [BitstampRest(world)],
    stream=BitstampStream,
)
