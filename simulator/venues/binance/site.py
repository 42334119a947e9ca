"""What runs for this venue."""

from __future__ import annotations

from simulator.site import Site
from simulator.venues.binance.archive import BinanceArchive
from simulator.venues.binance.rest import BinanceRest, policy
from simulator.venues.binance.stream import BinanceStream
from simulator.venues.binance.trades import BinanceTrades

SITE = Site(
    policies=lambda config: [policy()],
    parts=lambda world: [BinanceRest(world), BinanceTrades(world), BinanceArchive(world)],
    stream=BinanceStream,
)
