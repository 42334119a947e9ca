"""The Coinbase adapter."""

from __future__ import annotations

from venues.adapter import Adapter, Proof
from venues.coinbase.rest import CoinbaseRest
from venues.coinbase.settings import CoinbaseSettings
from venues.coinbase.stream import CoinbaseVenue, products_of

ADAPTER = Adapter(
    name="coinbase",
    title="Coinbase",
    proof=Proof.IDS,
    settings=CoinbaseSettings,
    products=products_of,
    stream=CoinbaseVenue,
    rest=CoinbaseRest,
    alive=lambda settings: f"{settings.rest_url}/products/BTC-USD/ticker",
)
