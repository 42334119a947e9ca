"""The Kraken adapter."""

from __future__ import annotations

from venues.adapter import Adapter, Proof
from venues.kraken.rest import KrakenRest
from venues.kraken.settings import KrakenSettings
from venues.kraken.stream import KrakenVenue, products_of
from venues.kraken.symbols import ALIASES

ADAPTER = Adapter(
    name="kraken",
    title="Kraken",
    proof=Proof.IDS,
    aliases=ALIASES,
    settings=KrakenSettings,
    products=products_of,
    stream=KrakenVenue,
    rest=KrakenRest,
    alive=lambda settings: f"{settings.rest_url}/SystemStatus",
)
