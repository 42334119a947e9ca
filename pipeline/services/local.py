"""The private broker and database that the settings describe."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.settings import DatabaseSettings, PulsarSettings, ServicesSettings, load
from pipeline.services.broker import Broker
from pipeline.services.database import Database


def data_folder() -> Path:
    """Where this checkout (or its demo) keeps data and the records of its processes."""
    return load(ServicesSettings).data.resolve()


def broker() -> Broker | None:
    """The private broker; None when `PULSAR_URL` names another one."""
    settings = load(PulsarSettings)
    if not settings.private:
        return None
    folder = data_folder() / "broker"
    return Broker(folder, settings.port, settings.admin_port, settings.memory, advertised_port=settings.advertised_port)


def database() -> Database | None:
    """The private database; None when `DATABASE_URL` names another one."""
    settings = load(DatabaseSettings)
    if not settings.private:
        return None
    return Database(data_folder() / "database", settings.port, settings.memory)
