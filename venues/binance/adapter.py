"""The Binance adapter."""

from __future__ import annotations

from venues.adapter import Adapter, Proof
from venues.binance.rest import BinanceRest
from venues.binance.settings import BinanceSettings
from venues.binance.stream import BinanceVenue, products_of

ADAPTER = Adapter(
    name="binance",
    title="Binance",
    proof=Proof.IDS,
    settings=BinanceSettings,
    products=products_of,
    stream=BinanceVenue,
    rest=BinanceRest,
    alive=lambda settings: f"{settings.rest_url}/time",
)
