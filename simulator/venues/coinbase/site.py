"""What runs for this venue."""

from __future__ import annotations

from simulator.site import Site
from simulator.venues.coinbase import api, rest
from simulator.venues.coinbase.stream import CoinbaseStream

SITE = Site(
    policies=lambda config: [rest.policy(config), api.policy(config)],
    parts=lambda world: [rest.CoinbaseRest(world), api.CoinbaseApi(world)],
    stream=CoinbaseStream,
)
