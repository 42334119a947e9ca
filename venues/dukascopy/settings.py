"""Settings of Dukascopy."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from pipeline.core import setting_types as t
from pipeline.core.settings import Section, either


class DukascopySettings(Section):
    """Dukascopy history: quotes by the hour."""

    model_config = SettingsConfigDict(env_prefix="DUKASCOPY_")
    enabled: bool = True
    instruments: t.SomeNames = ("EURUSD", "BTCUSD")
    feed: str = Field("auto", description="auto, json, bi5 or a folder of bi5 files.")
    start: t.Moment = Field("7_days_ago", validation_alias=either("DUKASCOPY_FROM"), description="First hour wanted.")
    bi5_url: t.HttpUrl = "https://datafeed.dukascopy.com/datafeed"
    json_url: t.HttpUrl = "https://jetta.dukascopy.com/v1"
    instruments_file: Path | None = Field(None, description="Adds to or overrides the built-in instruments.")
    poll_seconds: t.Seconds = Field(600, gt=0, description="Pause between two looks for new hours with --follow.")
    max_rate: t.Rate = Field(10.0, description="Upper bound of the adaptive request rate, a second.")
    connections: int = Field(4, ge=1, le=16)
    empty_confirm_seconds: t.Seconds = Field(600, ge=0, description="Two empty answers must lie this far apart.")
    retry_seconds: t.Seconds = Field(5, ge=0, description="First pause after a failed call; doubled up to 5 minutes.")
    cache: bool = Field(True, description="Keep raw answers on disk, so that a second load asks nobody.")


SETTINGS = DukascopySettings
