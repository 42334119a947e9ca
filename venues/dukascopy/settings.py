"""Dukascopy settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from pipeline.core import setting_types as t
from pipeline.core.settings import Section, either


class DukascopySettings(Section):
    """Dukascopy history: hours of quotes."""

    model_config = SettingsConfigDict(env_prefix="DUKASCOPY_")
    enabled: bool = True
    instruments: t.SomeNames = ("EURUSD", "BTCUSD")
    feed: str = Field("auto", description="auto, json, bi5 or a folder of bi5 files.")
    start: t.Moment = Field("7_days_ago", validation_alias=either("DUKASCOPY_FROM"), description="First hour to load.")
    bi5_url: t.HttpUrl = "https://datafeed.dukascopy.com/datafeed"
    json_url: t.HttpUrl = "https://jetta.dukascopy.com/v1"
    instruments_file: Path | None = Field(None, description="Adds to or overrides the built-in instruments.")
    poll_seconds: t.Seconds = Field(600, gt=0, description="Seconds between two checks for new hours with --follow.")
    start_rate: t.Rate = Field(1.0, description="Rate of the first requests, per second; it adapts from there.")
    max_rate: t.Rate = Field(10.0, description="Upper limit of the adaptive request rate, per second.")
    connections: int = Field(4, ge=1, le=16)
    empty_confirm_seconds: t.Seconds = Field(
        600, ge=0, description="Seconds between two empty answers that prove an hour empty."
    )
    retry_seconds: t.Seconds = Field(
        5, ge=0, description="First pause after a failed request; doubled up to 5 minutes."
    )
    cache: bool = Field(True, description="Keep raw answers on disk, so that a second load needs no requests.")


SETTINGS = DukascopySettings
