"""Every setting there is, by section; read from the environment and from `.env`.

A section is a frozen model with one prefix. `load(Section)` gives it or raises `WrongUse` with one sentence for each
wrong value in any section, under the name that the user wrote: somebody who corrects one setting corrects all. A key
with a known prefix that no section knows is refused with the nearest name, so that a typing error never silently means
"default". The environment wins over `.env`; `ENV_FILE` names another file.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from pydantic import Field, FilePath, SecretStr
from pydantic_settings import SettingsConfigDict

from pipeline.core import setting_types as t
from pipeline.core.errors import WrongUse
from pipeline.core.section import Section as Section
from pipeline.core.section import VenueSettings as VenueSettings
from pipeline.core.section import either as either
from pipeline.core.setting_sources import Found
from pipeline.core.setting_sources import names_of as names_of
from pipeline.core.setting_types import PROJECT as PROJECT

# Who logs in to the private database: programs may add and correct, the owner may change the tables (retention,
# scripts/psql), and only migrations come as superuser.
PROGRAM_ROLE, OWNER_ROLE, ADMIN_ROLE = "market_data", "market_data_owner", "postgres"


class CommonSettings(Section):
    """Logging and the local ports of `/health` and `/metrics`."""

    app_name: str = Field("market-data", max_length=100, validation_alias=either("APP_NAME", "TRADES_APP_NAME"))
    debug: bool = Field(False, validation_alias=either("DEBUG", "TRADES_DEBUG"))
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], t.Upper] = Field(
        "INFO", validation_alias=either("LOG_LEVEL", "TRADES_LOG_LEVEL", "COINBASE_LOG_LEVEL")
    )
    log_format: Annotated[Literal["auto", "json", "console"], t.Lower] = Field(
        "auto", validation_alias=either("LOG_FORMAT", "TRADES_LOG_FORMAT")
    )
    metrics_base_port: int = Field(9100, ge=0, le=65000, validation_alias=either("METRICS_BASE_PORT"))
    metrics_host: t.Ip = Field(
        "127.0.0.1",
        validation_alias=either("METRICS_HOST"),
        description="Where they listen; anything else is for containers: whoever reaches it may read them.",
    )
    state_dir: t.Folder = Field(
        PROJECT / ".services" / "state",
        validation_alias=either("STATE_DIR"),
        description="Files that processes of one machine share: rate limits, raw downloads.",
    )


class PulsarSettings(Section):
    """The broker. Without `PULSAR_URL` it is the private one of this checkout."""

    model_config = SettingsConfigDict(env_prefix="PULSAR_")
    url: t.BrokerUrl | None = None
    admin_url: t.HttpUrl | None = None
    port: t.Port = 6650
    admin_port: t.Port = 8080
    advertised_port: int = Field(0, ge=0, le=65535, description="Where clients are told to come; 0: port.")
    tenant: t.Tenant = "market-data"
    token: SecretStr | None = None
    token_file: FilePath | None = None
    tls_ca_file: FilePath | None = None
    memory: t.Heap = Field("512m", description="Heap of the private broker; as much again direct.")
    topic_partitions: int = Field(0, ge=0, le=1000, description="0: topics are not partitioned.")
    pending_mb: int = Field(64, ge=1, le=100_000, description="What may wait for the broker in one process.")
    history_backlog_mb: int = Field(200, ge=1, le=10_000_000, description="History pauses while its backlog is larger.")

    @property
    def private(self) -> bool:
        """Whether this checkout runs the broker itself."""
        return self.url is None

    @property
    def service_url(self) -> str:
        return self.url or f"pulsar://127.0.0.1:{self.port}"

    @property
    def token_path(self) -> Path | None:
        """Where the token is read from at each connection. The private broker has one of its own, whatever is set."""
        return load(ServicesSettings).broker_token if self.private else self.token_file

    @property
    def admin(self) -> str:
        """Base address of the admin REST interface, derived from `PULSAR_URL` unless given."""
        if self.admin_url or self.url is None:
            return self.admin_url or f"http://127.0.0.1:{self.admin_port}"
        scheme, _, rest = self.url.partition("://")
        host = re.sub(r":\d+$", "", rest.split(",")[0])
        return f"https://{host}:8443" if scheme == "pulsar+ssl" else f"http://{host}:8080"


class DatabaseSettings(Section):
    """TimescaleDB. Without `DATABASE_URL` it is the private one of this checkout."""

    model_config = SettingsConfigDict(env_prefix="DATABASE_")
    url: t.ConnInfo | None = None
    port: t.Port = 5433
    memory: t.Size = Field("1g", description="Memory that the private database may count on.")
    retention_days: t.Days = Field(0, ge=0, description="0: keep for ever. Otherwise older ticks are dropped.")
    retention_without_archive: bool = Field(False, description="Drop what is in no file of the archive too.")

    @property
    def private(self) -> bool:
        return self.url is None

    @property
    def conninfo(self) -> str:
        """What psycopg is given: of the private database without the password, which libpq reads from its file."""
        return self.conninfo_as(PROGRAM_ROLE)

    def conninfo_as(self, role: str) -> str:
        """`conninfo` with another role of the private database; an address that was set says itself who comes."""
        if self.url is not None:
            return self.url.get_secret_value()
        passwords = quote(str(load(ServicesSettings).database_passwords), safe="/")
        return f"postgresql://{role}@127.0.0.1:{self.port}/market_data?passfile={passwords}"


class ServicesSettings(Section):
    """The private broker and database under `.services/`."""

    model_config = SettingsConfigDict(env_prefix="SERVICES_")
    data: t.Folder = PROJECT / ".services" / "data"
    cache: t.Folder = Path.home() / ".cache" / "market-data-services"

    @property
    def broker_token(self) -> Path:
        return self.data.resolve() / "broker" / "token"

    @property
    def database_passwords(self) -> Path:
        """In libpq's format of a passfile."""
        return self.data.resolve() / "database" / "passwords"


class ArchiveSettings(Section):
    """Parquet files of whole days. Without `ARCHIVE_PATH` they lie beside the private database's data."""

    model_config = SettingsConfigDict(env_prefix="ARCHIVE_")
    enabled: bool = True
    path: t.Place | None = Field(None, description="A folder, or s3://bucket/prefix.")
    after_hours: t.Seconds = Field(24, ge=0, description="A day is archived so long after its end.")
    poll_seconds: t.Seconds = Field(300, ge=1, description="Pause between two rounds.")
    direct_days: t.Days = Field(0, ge=0, description="Older quotes go straight into files; 0: none.")
    s3_endpoint: t.HttpUrl | None = Field(None, description="Of another object storage than Amazon's.")
    s3_region: str = "us-east-1"
    s3_access_key: str | None = None
    s3_secret_key: SecretStr | None = None

    @property
    def place(self) -> str:
        return self.path or str(load(ServicesSettings).data.resolve() / "archive")


class GapFillerSettings(Section):
    """Repair of missing trade ids."""

    model_config = SettingsConfigDict(env_prefix="GAP_FILLER_")
    reorder_seconds: t.Seconds = Field(3.0, ge=0, description="A hole this young may still close by itself.")
    confirm_seconds: t.Seconds = Field(
        60.0, ge=0, description="Two answers this far apart make a hole the venue's own."
    )
    max_age_days: t.Days = Field(30, gt=0, description="Holes further back are recorded as too old.")


class DashboardSettings(Section):
    """The web page."""

    model_config = SettingsConfigDict(env_prefix="DASHBOARD_")
    port: int = Field(8500, ge=0, le=65535)
    host: t.Ip = Field("127.0.0.1", description="Anything else is for containers: whoever reaches it may read all.")


class SimulatorSettings(Section):
    """The simulated venues of the demonstration."""

    model_config = SettingsConfigDict(env_prefix="SIMULATOR_")
    port: t.Port = 18_900


class LimitSettings(Section):
    """When to hold back."""

    model_config = SettingsConfigDict(env_prefix="LIMITS_")
    min_free_disk_gb: float = Field(5.0, ge=0, le=1_000_000, description="History pauses while less disk is free.")
    writer_memory_mb: int = Field(1024, ge=0, le=1_000_000, description="A writer that outgrows it ends; 0: no bound.")


_SECTIONS: tuple[type[Section], ...] = (
    CommonSettings,
    PulsarSettings,
    DatabaseSettings,
    ServicesSettings,
    GapFillerSettings,
    ArchiveSettings,
    DashboardSettings,
    SimulatorSettings,
    LimitSettings,
)


@cache
def folder_sections() -> dict[str, type[Section]]:
    """Those that stand beside what they set, by the folder's name: `SETTINGS` of every `venues/*/settings.py` and
    `producers/*/settings.py`."""
    files = sorted(file for room in ("venues", "producers") for file in (PROJECT / room).glob("*/settings.py"))
    return {file.parent.name: import_module(f"{file.parts[-3]}.{file.parts[-2]}.settings").SETTINGS for file in files}


@cache
def venue_sections() -> dict[str, type[VenueSettings]]:
    """Those of the live venues by name, in the order of their ports."""
    found = {name: one for name, one in folder_sections().items() if issubclass(one, VenueSettings)}
    return dict(sorted(found.items(), key=lambda one: one[1].metrics_offset))


@cache
def sections() -> tuple[type[Section], ...]:
    """All of them."""
    return *_SECTIONS, *folder_sections().values()


@cache
def prefixes() -> tuple[str, ...]:
    """What the names of our settings begin with."""
    return *filter(None, (str(one.model_config["env_prefix"]) for one in sections())), "TRADES_", "METRICS_"


# Names that Pulsar's own scripts read from the environment: not ours, not refused.
FOREIGN = re.compile(r"PULSAR_(MEM|GC|EXTRA_OPTS|EXTRA_CLASSPATH|LOG_.*|STANDALONE_.*|CLIENT_CONF|PID_DIR|.*_CONF)")

S = TypeVar("S", bound=Section)


def load(section: type[S], **overrides: Any) -> S:
    """Read one section. `overrides` (from the command line, by field name) win; None means "not given".

    Raises `WrongUse` when the section cannot be made or a name is unknown, with one sentence for everything that is
    wrong in any section. What is wrong in another section alone does not concern who loads this one.
    """
    found = Found(sections(), prefixes(), FOREIGN)
    made, wrong = found.make(section, overrides)
    if made is None or found.wrong:
        others = [text for other in sections() if other is not section for text in found.make(other)[1]]
        raise WrongUse("\n".join([*found.wrong, *wrong, *others]))
    return made


def check_all() -> None:
    """Raise `WrongUse` for everything that is wrong in any section: before anything starts."""
    found = Found(sections(), prefixes(), FOREIGN)
    wrong = [*found.wrong, *(text for section in sections() for text in found.make(section)[1])]
    if wrong:
        raise WrongUse("\n".join(wrong))
