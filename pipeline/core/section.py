"""The bases of all sections of settings, see `pipeline.core.settings`."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import AliasChoices
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pipeline.core import setting_types as t


def either(*names: str) -> Any:
    """The environment names of one field, the canonical one first."""
    return AliasChoices(*names)


class Section(BaseSettings):
    """Base of all sections: frozen, and made by `load` from what `pipeline.core.setting_sources` finds."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True, allow_inf_nan=False)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing but what is given: where a value came from must be known when it is wrong."""
        return (init_settings,)


class VenueSettings(Section):
    """Base of the sections of live venues, each of which stands beside its adapter: `venues/*/settings.py`."""

    metrics_offset: ClassVar[int]  # of the port of `/health` and `/metrics` above `METRICS_BASE_PORT`
    demo_products: ClassVar[str]  # what the demonstration streams

    enabled: bool = True
    product_ids: t.Products
    last_n_days: t.Days
    rest_url: t.HttpUrl
    rest_rate: t.Rate
