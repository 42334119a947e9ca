"""A stranger's venue, written from docs/adding-a-venue.md alone: what a folder below `venues/` holds, in one file.

{"kind":"trade","market":"BTC_USD","trades":[{"n":7,"at":1795726015158702,"price":"87803","size":"0.5","taker":"buy"}]}
{"kind":"subscribed","market":"BTC_USD","id":3}
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from pipeline.core import setting_types as t
from pipeline.core.errors import Refused
from pipeline.core.products import canonical_product
from pipeline.core.settings import VenueSettings
from schemas.records import TradeRow
from venues.adapter import Adapter, Proof
from venues.events import (
    READING,
    Acknowledged,
    BadElements,
    TradeFrame,
    VenueEvent,
    VenueTime,
    parse_frame,
    sane_time,
    unreadable,
    whole_number,
)
from venues.products import configured
from venues.rows import trade_row


class ToySettings(VenueSettings):
    model_config = SettingsConfigDict(env_prefix="TOY_")
    metrics_offset: ClassVar[int] = 29
    demo_products: ClassVar[str] = "BTC/USD"

    product_ids: t.Products = ("BTC/USD",)
    last_n_days: t.Days = Field(1, gt=0)
    ws_url: t.WebSocketUrl = "ws://127.0.0.1:9/ws"
    rest_url: t.HttpUrl = "http://127.0.0.1:9"
    rest_rate: t.Rate = 1.0


def read(frame: bytes) -> list[VenueEvent]:
    """Parse a frame into events."""
    try:
        message = parse_frame(frame)
        product = canonical_product(message["market"].replace("_", "-"))
        if message["kind"] == "subscribed":
            return [Acknowledged("trade", product, message["id"])]
        return _trades(message["trades"], product) if message["kind"] == "trade" else []
    except READING as error:
        return [unreadable(error, frame)]


def _trades(elements: list[dict[str, Any]], product: str) -> list[VenueEvent]:
    bad = BadElements()
    rows = bad.each(elements, _row)
    events: list[VenueEvent] = [VenueTime(rows[-1].timestamp_us), TradeFrame(product, rows)] if rows else []
    return events + bad.all()


def _row(element: dict[str, Any]) -> TradeRow:
    at_us = sane_time(whole_number(element["at"]))
    return trade_row(element["n"], at_us, element["price"], element["size"], element["taker"])


class ToyVenue:
    """Implements `venues.venue.Venue`."""

    name = "toy"
    watches_trades = True
    messages_per_s = rest_per_s = 1.0
    products_per_text = 1
    frame_timeout_s, quiet_s = 30.0, 15.0
    channels: tuple[str, ...] = ("trade",)

    def __init__(self, settings: ToySettings, state_dir: Path, stop: threading.Event) -> None:
        self.url, self.products = settings.ws_url, configured(settings)
        self.spaces = {"trades": "trade"}

    def opened(self) -> list[str]:
        return []

    def subscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        return json.dumps({"do": "subscribe", "market": products[0].replace("-", "_"), "id": request})

    def unsubscribe(self, channel: str, products: Sequence[str], request: int) -> str:
        return json.dumps({"do": "unsubscribe", "market": products[0].replace("-", "_"), "id": request})

    def read(self, frame: bytes) -> list[VenueEvent]:
        return read(frame)

    def newest_trade(self, product_id: str) -> int:
        raise Refused("the toy has no REST")


ADAPTER = Adapter(
    name="toy",
    title="Toy",
    proof=Proof.IDS,
    settings=ToySettings,
    products=configured,
    stream=ToyVenue,
    alive=lambda settings: settings.rest_url,
)
