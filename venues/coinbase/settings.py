"""Coinbase settings."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from pipeline.core import setting_types as t
from pipeline.core.settings import StreamSettings, either


class CoinbaseSettings(StreamSettings):
    """Coinbase: Advanced Trade for the stream, Exchange REST for history."""

    model_config = SettingsConfigDict(env_prefix="COINBASE_")
    metrics_offset: ClassVar[int] = 6
    demo_products: ClassVar[str] = "BTC-USD,ETH-USD"

    product_ids: t.Products = Field(
        ("BTC-USD", "ETH-USD"), validation_alias=either("COINBASE_PRODUCT_IDS", "PRODUCT_IDS")
    )
    channels: t.SomeNames = Field(
        ("market_trades", "ticker", "candles"), validation_alias=either("COINBASE_CHANNELS", "CHANNELS")
    )
    ws_timeout: t.Seconds = Field(30, gt=0, validation_alias=either("COINBASE_WS_TIMEOUT", "WS_TIMEOUT"))
    metrics_port: int | None = Field(
        None, ge=0, le=65535, validation_alias=either("COINBASE_METRICS_PORT", "METRICS_PORT")
    )
    last_n_days: t.Days = Field(1, gt=0)
    api_key: SecretStr | None = None
    api_secret: SecretStr | None = None
    ws_url: t.WebSocketUrl = "wss://advanced-trade-ws.coinbase.com"
    rest_url: t.HttpUrl = "https://api.exchange.coinbase.com"
    rest_rate: t.Rate = Field(8.0, description="REST requests per second; Coinbase allows 10 per IP address.")


SETTINGS = CoinbaseSettings
