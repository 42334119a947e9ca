"""OANDA settings."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from pipeline.core import setting_types as t
from pipeline.core.errors import WrongUse
from pipeline.core.settings import VenueSettings


class OandaSettings(VenueSettings):
    """OANDA v20: the pricing stream of an account, and candles. The addresses are those of practice accounts."""

    model_config = SettingsConfigDict(env_prefix="OANDA_")
    metrics_offset: ClassVar[int] = 14
    demo_products: ClassVar[str] = "EUR/USD"

    enabled: bool = False
    token: SecretStr | None = Field(None, description="The account's API token.")
    account: str | None = Field(
        None, pattern=r"^[0-9A-Za-z-]{0,64}$", description="The account, such as 101-004-1234567-001."
    )
    product_ids: t.Products = ("EUR/USD",)
    last_n_days: t.Days = Field(1, gt=0, description="Unused: OANDA's prices are samples and cannot be loaded.")
    stream_url: t.HttpUrl = "https://stream-fxpractice.oanda.com"
    rest_url: t.HttpUrl = "https://api-fxpractice.oanda.com"
    rest_rate: t.Rate = Field(1.0, description="REST requests per second.")
    stream_timeout: t.Seconds = Field(
        15, gt=0, description="Seconds without any line after which to reconnect; heartbeats come every 5 s."
    )


SETTINGS = OandaSettings


def authorization(settings: OandaSettings) -> dict[str, str]:
    """Return the headers of every request. Raises `WrongUse` without a token and an account."""
    if settings.token is None or not settings.account:
        raise WrongUse("OANDA serves its customers only: set OANDA_TOKEN and OANDA_ACCOUNT.")
    return {"Authorization": f"Bearer {settings.token.get_secret_value()}", "Accept-Datetime-Format": "RFC3339"}
