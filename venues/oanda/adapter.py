"""The OANDA adapter."""

from __future__ import annotations

from venues.adapter import Adapter, Proof
from venues.oanda.candles import OandaCandles
from venues.oanda.settings import OandaSettings
from venues.oanda.stream import OandaVenue
from venues.oanda.symbols import asset_class_of
from venues.products import configured

ADAPTER = Adapter(
    name="oanda",
    title="OANDA",
    proof=Proof.SAMPLED,
    settings=OandaSettings,
    products=configured,
    stream=OandaVenue,
    candles=OandaCandles,
    asset_class=asset_class_of,
    alive=lambda settings: f"{settings.rest_url}/v3/accounts",
)
