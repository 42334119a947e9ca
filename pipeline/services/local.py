"""The private broker and database configured by the settings."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.settings import DatabaseSettings, PulsarSettings, ServicesSettings, load
from pipeline.services.broker import Broker
from pipeline.services.database import Database


def data_folder() -> Path:
    """Return the folder with this checkout's (or its demonstration's) data and process records."""
    return load(ServicesSettings).data.resolve()


def broker() -> Broker | None:
    """Return the private broker; None if `PULSAR_URL` is set."""
    settings = load(PulsarSettings)
    if not settings.private:
        return None
    folder = data_folder() / "broker"
    return Broker(folder, settings.port, settings.admin_port, settings.memory, advertised_port=settings.advertised_port)


def database() -> Database | None:
    """Return the private database; None if `DATABASE_URL` is set."""
    settings = load(DatabaseSettings)
    if not settings.private:
        return None
    return Database(data_folder() / "database", settings.port, settings.memory)
