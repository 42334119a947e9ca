"""Base classes of the sections of settings, see `pipeline.core.settings`."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pipeline.core import setting_types as t


def either(*names: str) -> Any:
    """Declare several environment names for a field, the canonical one first."""
    return AliasChoices(*names)


class Section(BaseSettings):
    """Base of all sections: frozen, created by `load` from what `pipeline.core.setting_sources` finds."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True, allow_inf_nan=False)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use explicit values only: errors must name the source of a value."""
        return (init_settings,)


class VenueSettings(Section):
    """Base of the live venues' sections, each next to its adapter: `venues/*/settings.py`."""

    metrics_offset: ClassVar[int]  # port of `/health` and `/metrics`, relative to `METRICS_BASE_PORT`
    demo_products: ClassVar[str]  # what the demonstration streams

    enabled: bool = True
    product_ids: t.Products
    last_n_days: t.Days
    rest_url: t.HttpUrl
    rest_rate: t.Rate


class StreamSettings(VenueSettings):
    """Base of the sections of venues with a WebSocket, for `venues.websocket_venue`."""

    ws_url: t.WebSocketUrl
    ws_timeout: t.Seconds
    quiet_seconds: t.Seconds = Field(
        15.0, gt=0, description="Seconds of silence after which a product is checked against REST."
    )
