"""Kraken settings."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from pipeline.core import setting_types as t
from pipeline.core.settings import StreamSettings, either


class KrakenSettings(StreamSettings):
    """Kraken trades and tickers. The `TRADES_` names of the former service are still accepted."""

    model_config = SettingsConfigDict(env_prefix="KRAKEN_")
    metrics_offset: ClassVar[int] = 5
    demo_products: ClassVar[str] = "BTC/USD,ETH/USD"

    product_ids: t.Products = Field(("BTC/USD",), validation_alias=either("KRAKEN_PRODUCT_IDS", "TRADES_PRODUCT_IDS"))
    live_or_historical: Annotated[Literal["live", "historical"], t.Lower] = Field(
        "live", validation_alias=either("KRAKEN_LIVE_OR_HISTORICAL", "TRADES_LIVE_OR_HISTORICAL")
    )
    last_n_days: t.Days = Field(1, gt=0, validation_alias=either("KRAKEN_LAST_N_DAYS", "TRADES_LAST_N_DAYS"))
    ticker: bool = True
    ws_url: t.WebSocketUrl = "wss://ws.kraken.com/v2"
    rest_url: t.HttpUrl = "https://api.kraken.com/0/public"
    ws_timeout: t.Seconds = Field(10, gt=0, description="Seconds without any frame after which to reconnect.")
    rest_rate: t.Rate = Field(1.0, description="REST requests per second and pair that Kraken allows.")


SETTINGS = KrakenSettings
