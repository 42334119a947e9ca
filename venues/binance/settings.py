"""Binance settings."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from pipeline.core import setting_types as t
from pipeline.core.settings import StreamSettings


class BinanceSettings(StreamSettings):
    """Binance spot: trades and best bid and ask; history by REST and from the public archive."""

    model_config = SettingsConfigDict(env_prefix="BINANCE_")
    metrics_offset: ClassVar[int] = 12
    demo_products: ClassVar[str] = "BTC/USDT"

    enabled: bool = False
    product_ids: t.Products = ("BTC/USDT",)
    ticker: bool = True
    last_n_days: t.Days = Field(1, gt=0)
    archive: bool = Field(True, description="Long history comes from the public archive, the rest by REST.")
    api_key: SecretStr | None = Field(None, description="Sent with REST requests if set.")
    ws_url: t.WebSocketUrl = "wss://stream.binance.com:9443/ws"
    rest_url: t.HttpUrl = "https://api.binance.com/api/v3"
    archive_url: t.HttpUrl = "https://data.binance.vision"
    ws_timeout: t.Seconds = Field(10, gt=0, description="Seconds without any frame after which to reconnect.")
    rest_rate: t.Rate = Field(3.0, description="REST requests per second; each weighs 25 of the 6,000 per minute.")


SETTINGS = BinanceSettings
