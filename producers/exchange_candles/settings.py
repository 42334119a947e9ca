"""Settings of the exchange candles."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from pipeline.core import setting_types as t
from pipeline.core.settings import Section


class ExchangeCandlesSettings(Section):
    """Candles of many exchanges through ccxt, and of OANDA."""

    model_config = SettingsConfigDict(env_prefix="EXCHANGE_CANDLES_")
    enabled: bool = False
    exchanges: t.SomeNames = ("binance", "coinbase", "kraken")
    symbols: t.AnyProducts = Field((), description="Empty: the file, then the table watchlist.")
    symbols_file: Path | None = Field(None, description="One symbol per line; # starts a comment.")
    granularity_minutes: int = Field(1, gt=0, le=1_000_000)
    backfill_start_date: t.Moment = Field(
        "1_year_ago", description="1_year_ago, N_days_ago, N_hours_ago or an ISO date."
    )
    min_exchanges_required: int = Field(0, ge=0, le=1000, description="0: all named exchanges.")
    api_call_delay_seconds: t.Seconds = Field(0.0, ge=0)
    urls: t.HttpUrls = Field(default_factory=dict, description="JSON: base URLs by exchange (https://host).")
    poll_seconds: t.Seconds = Field(60, ge=1, description="Seconds between two polls with --follow.")
    settle_seconds: t.Seconds = Field(
        60, ge=0, le=86_400, description="Seconds after a candle's close when the second of its two equal looks counts."
    )


SETTINGS = ExchangeCandlesSettings
