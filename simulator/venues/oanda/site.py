"""The running parts of the venue."""

from __future__ import annotations

from simulator.site import Site
from simulator.venues.oanda.rest import OandaRest, policy
from simulator.venues.oanda.stream import OandaStream

SITE = Site(
    policies=lambda config: [policy()],
    parts=lambda world: [OandaRest(world)],
    stream=OandaStream,
)
