"""The demonstration: the same programs against the simulator, with their own data, ports and socket."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from pipeline.core.errors import WrongUse
from pipeline.core.programs import BY_NAME, Program
from pipeline.core.settings import (
    CommonSettings,
    DashboardSettings,
    DatabaseSettings,
    PulsarSettings,
    ServicesSettings,
    SimulatorSettings,
    is_setting,
    load,
    venue_sections,
)
from pipeline.services import conf
from pipeline.services.folders import ours

MARK = "PIPELINE_DEMO"  # its value is the folder of the demonstration
SHIFT = 10_000  # from a live port to the demonstration's
DAY = ("EURUSD", "2019-02-04", "2019-02-05")
HOURS = ("BTCUSD", "2023-02-20T12:00", "2023-02-20T14:00")


def _load(instrument: str, start: str, end: str) -> tuple[str, ...]:
    return ("--instruments", instrument, "--from", start, "--to", end)


# Programs of the demonstration only. The loaders end when their data is stored.
EXTRA = (
    Program("simulator", "simulator", 20, ("serve",)),
    Program("load-eurusd", "producers.dukascopy", 21, _load(*DAY), once=True),
    Program("load-btcusd", "producers.dukascopy", 22, _load(*HOURS), once=True),
)
# Not part of the demonstration: it would request years of hours that are not recorded.
WITHOUT = ("dukascopy",)


def _shifted(port: int) -> str:
    return str(port + SHIFT if port + SHIFT <= 65_535 else port - SHIFT)


def active() -> bool:
    """Whether this process belongs to the demonstration."""
    return MARK in os.environ


def _folder(data: Path) -> Path:
    """Return the folder of the demonstration. It has to be in a folder of ours: with another `SERVICES_DATA`, what is
    beside it is somebody else's, unless an earlier version ran a demonstration there."""
    if data == ServicesSettings.model_fields["data"].default:
        return data.parent.resolve() / "demo"
    beside = data.resolve().with_name("demo")
    earlier = beside != data.resolve() and (beside / "supervisord.conf").exists() and ours(beside)
    return beside if earlier else data.resolve() / "demo"


def enter_demo() -> None:
    """Make this process and its children part of the demonstration: live settings are ignored, except that its ports
    are 10,000 above the live ones and its data is beside the live data, or in its folder. `SIMULATOR_PORT` has no live
    counterpart and is used unchanged."""
    if active():
        _check_apart()
        return
    pulsar, database, common = load(PulsarSettings), load(DatabaseSettings), load(CommonSettings)
    folder = _folder(load(ServicesSettings).data)
    simulator = load(SimulatorSettings).port
    ours = {
        MARK: str(folder),
        "ENV_FILE": str(folder / "no.env"),
        "SERVICES_DATA": str(folder),
        "STATE_DIR": str(folder / "state"),
        "PULSAR_PORT": _shifted(pulsar.port),
        "PULSAR_ADMIN_PORT": _shifted(pulsar.admin_port),
        "DATABASE_PORT": _shifted(database.port),
        "METRICS_BASE_PORT": _shifted(common.metrics_base_port or 9100),
        "DASHBOARD_PORT": _shifted(load(DashboardSettings).port or 8500),
        "SIMULATOR_PORT": str(simulator),
        **{f"{name.upper()}_PRODUCT_IDS": one.demo_products for name, one in venue_sections().items()},
        "DUKASCOPY_FEED": "bi5",
        "DUKASCOPY_CACHE": "false",
        "DUKASCOPY_START_RATE": "100",  # the simulator needs no consideration
        "DUKASCOPY_MAX_RATE": "100",
        "ARCHIVE_POLL_SECONDS": "5",
    }
    for name in list(os.environ):
        if is_setting(name):
            del os.environ[name]
    from simulator.testing import urls

    os.environ.update(urls(simulator) | ours)
    _check_apart()


def _check_apart() -> None:
    """Raise `WrongUse` if anything but the demonstration's own services would be used: simulated trades among real ones
    cannot be told apart afterwards, so this does not rely on the removal of the live settings."""
    private = load(PulsarSettings).private and load(DatabaseSettings).private
    if not private or load(ServicesSettings).data != Path(os.environ[MARK]):
        raise WrongUse(
            "The demonstration would not have a broker and a database of its own: unset PIPELINE_DEMO, PULSAR_URL and "
            "DATABASE_URL in this shell."
        )


def programs() -> dict[str, Program]:
    """Return the programs of this pipeline, live or demonstration, by name."""
    return BY_NAME | {one.name: one for one in EXTRA} if active() else BY_NAME


def exists(program: Program) -> bool:
    """Whether the program's module is part of this checkout."""
    spec = find_spec(program.module)
    return spec is not None and (
        not spec.submodule_search_locations or find_spec(f"{program.module}.__main__") is not None
    )


def simulator_port() -> int:
    return load(SimulatorSettings).port


def write_conf(folder: Path) -> Path:
    """Write the demonstration's supervisord.conf."""
    return conf.write(folder, without=WITHOUT, extra=[one.name for one in EXTRA])
