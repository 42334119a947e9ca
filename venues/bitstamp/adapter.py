"""The Bitstamp adapter."""

from __future__ import annotations

from venues.adapter import Adapter, Proof
from venues.bitstamp.rest import BitstampRest
from venues.bitstamp.settings import BitstampSettings
from venues.bitstamp.stream import BitstampVenue, products_of

ADAPTER = Adapter(
    name="bitstamp",
    title="Bitstamp",
    proof=Proof.WINDOWS,
    settings=BitstampSettings,
    products=products_of,
    stream=BitstampVenue,
    recent=BitstampRest,
    alive=lambda settings: f"{settings.rest_url}/ticker/btcusd/",
)
