"""Bitstamp settings."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from pipeline.core import setting_types as t
from pipeline.core.settings import StreamSettings


class BitstampSettings(StreamSettings):
    """Bitstamp: trades, and the best bid and ask of its order book."""

    model_config = SettingsConfigDict(env_prefix="BITSTAMP_")
    metrics_offset: ClassVar[int] = 13
    demo_products: ClassVar[str] = "BTC/USD"

    enabled: bool = False
    product_ids: t.Products = ("BTC/USD",)
    last_n_days: t.Days = Field(1, gt=0, description="At most 1: REST shows no older trades.")
    ws_url: t.WebSocketUrl = "wss://ws.bitstamp.net"
    rest_url: t.HttpUrl = "https://www.bitstamp.net/api/v2"
    ws_timeout: t.Seconds = Field(30, gt=0, description="Seconds without any frame after which to reconnect.")
    rest_rate: t.Rate = Field(4.0, description="REST requests per second; Bitstamp allows 10,000 in 10 minutes.")


SETTINGS = BitstampSettings
