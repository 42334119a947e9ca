"""The Coinbase adapter."""

from __future__ import annotations

from venues.adapter import Adapter, Proof
from venues.coinbase.rest import CoinbaseRest
from venues.coinbase.settings import CoinbaseSettings
from venues.coinbase.stream import CoinbaseVenue
from venues.products import configured

ADAPTER = Adapter(
    name="coinbase",
    title="Coinbase",
    proof=Proof.IDS,
    settings=CoinbaseSettings,
    products=configured,
    stream=CoinbaseVenue,
    rest=CoinbaseRest,
    alive=lambda settings: f"{settings.rest_url}/products/BTC-USD/ticker",
)
