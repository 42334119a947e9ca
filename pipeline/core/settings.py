"""All settings, by section; read from the environment and from `.env`.

A section is a frozen model with one prefix. `load(Section)` returns it, or raises `WrongUse` with one sentence for each
wrong value in any section, under the name that the user wrote, so that all can be corrected at once. An unknown name
with a known prefix is refused with the closest match, so that a typing error never silently means "default". The
environment takes precedence over `.env`; `ENV_FILE` names another file.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote, urlencode

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from pipeline.core import setting_types as t
from pipeline.core.errors import WrongUse
from pipeline.core.libpq import forget_environment
from pipeline.core.section import Section as Section
from pipeline.core.section import StreamSettings as StreamSettings
from pipeline.core.section import VenueSettings as VenueSettings
from pipeline.core.section import either as either
from pipeline.core.setting_sources import Found
from pipeline.core.setting_sources import names_of as names_of
from pipeline.core.setting_types import PROJECT as PROJECT

# Roles of the private database: programs may add and correct rows, the owner may change tables (retention,
# scripts/psql), and only migrations run as superuser.
PROGRAM_ROLE, OWNER_ROLE, ADMIN_ROLE = "market_data", "market_data_owner", "postgres"
PRIVATE_DATABASE = {
    # If another server listens on the port while ours is down, libpq would send it the password on request, and we
    # would take it for ours. With SCRAM the password is not sent, and the server has to know it, too.
    "require_auth": "scram-sha-256",
    "gssencmode": "disable",
}


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
        description="Files shared by all processes of the machine: rate limits, raw downloads.",
    )


class PulsarSettings(Section):
    """The broker. Without `PULSAR_URL`: the private one of this checkout."""

    model_config = SettingsConfigDict(env_prefix="PULSAR_")
    url: t.BrokerUrl | None = None
    admin_url: t.HttpUrl | None = None
    port: t.Port = 6650
    admin_port: t.Port = 8080
    advertised_port: int = Field(0, ge=0, le=65535, description="Port announced to clients; 0: the same as port.")
    tenant: t.Tenant = "market-data"
    token: SecretStr | None = None
    token_file: t.File | None = None
    tls_ca_file: t.File | None = None
    memory: t.Heap = Field("512m", description="Heap of the private broker; it uses as much direct memory.")
    topic_partitions: int = Field(0, ge=0, le=1000, description="0: topics are not partitioned.")
    pending_mb: int = Field(64, ge=1, le=100_000, description="Limit of messages waiting for the broker, per process.")
    history_backlog_mb: int = Field(200, ge=1, le=10_000_000, description="History pauses while its backlog is larger.")

    @property
    def private(self) -> bool:
        """Whether this checkout runs the broker itself."""
        return self.url is None

    @property
    def service_url(self) -> str:
        return self.url or f"pulsar+ssl://127.0.0.1:{self.port}"

    @property
    def token_path(self) -> Path | None:
        """The file from which the token is read for each connection. The private broker always has its own."""
        return load(ServicesSettings).broker / "token" if self.private else self.token_file

    @property
    def authorities(self) -> Path | None:
        """The certificate authorities of the broker, if not the public ones. The private broker has its own."""
        return load(ServicesSettings).broker / "tls.pem" if self.private else self.tls_ca_file

    @property
    def admin(self) -> str:
        """Base URL of the admin REST interface, derived from `PULSAR_URL` unless set."""
        if self.admin_url or self.url is None:
            return self.admin_url or f"https://127.0.0.1:{self.admin_port}"
        scheme, _, rest = self.url.partition("://")
        host = re.sub(r":\d+$", "", rest.split(",")[0])
        return f"https://{host}:8443" if scheme == "pulsar+ssl" else f"http://{host}:8080"


class DatabaseSettings(Section):
    """TimescaleDB. Without `DATABASE_URL`: the private one of this checkout."""

    model_config = SettingsConfigDict(env_prefix="DATABASE_")
    url: t.ConnInfo | None = None
    port: t.Port = 5433
    memory: t.Size = Field("1g", description="Memory for the private database.")
    retention_days: t.Days = Field(0, ge=0, description="Drop ticks older than this; 0: keep forever.")
    retention_poll_seconds: t.Seconds = Field(3600, ge=1, description="Seconds between two checks for old ticks.")
    retention_without_archive: bool = Field(False, description="Also drop ticks that are not archived.")

    @property
    def private(self) -> bool:
        return self.url is None

    @property
    def conninfo(self) -> str:
        """The connection string for psycopg; for the private database without the password, which libpq reads from its
        passfile."""
        return self.conninfo_as(PROGRAM_ROLE)

    def conninfo_as(self, role: str) -> str:
        """Return `conninfo` with another role of the private database; `DATABASE_URL` names its role itself."""
        if self.url is not None:
            return self.url.get_secret_value()
        passwords = quote(str(load(ServicesSettings).data.resolve() / "database" / "passwords"), safe="/")
        forget_environment()
        others = urlencode(PRIVATE_DATABASE)
        return f"postgresql://{role}@127.0.0.1:{self.port}/market_data?{others}&passfile={passwords}"


def _cache() -> Path:
    try:
        return Path.home() / ".cache" / "market-data-services"
    except RuntimeError:
        raise WrongUse("This account has no home folder: set HOME, or name a folder in SERVICES_CACHE.") from None


class ServicesSettings(Section):
    """The private broker and database under `.services/`."""

    model_config = SettingsConfigDict(env_prefix="SERVICES_")
    data: t.Folder = PROJECT / ".services" / "data"
    cache: t.Folder = Field(default_factory=_cache)

    @property
    def broker(self) -> Path:
        return self.data.resolve() / "broker"


class ArchiveSettings(Section):
    """Parquet files of complete days. Without `ARCHIVE_PATH` they are next to the private database's data."""

    model_config = SettingsConfigDict(env_prefix="ARCHIVE_")
    enabled: bool = True
    path: t.Place | None = Field(None, description="A folder, or s3://bucket/prefix.")
    after_hours: t.Seconds = Field(24, ge=0, description="Hours after its end when a day is archived.")
    poll_seconds: t.Seconds = Field(300, ge=1, description="Seconds between two rounds.")
    direct_days: t.Days = Field(0, ge=0, description="Quotes older than this go straight into files; 0: none.")
    s3_endpoint: t.HttpUrl | None = Field(None, description="Endpoint of an object storage other than Amazon S3.")
    s3_region: str = "us-east-1"
    s3_access_key: str | None = None
    s3_secret_key: SecretStr | None = None

    @property
    def place(self) -> str:
        return self.path or str(load(ServicesSettings).data.resolve() / "archive")


class GapFillerSettings(Section):
    """Repair of missing trade ids."""

    model_config = SettingsConfigDict(env_prefix="GAP_FILLER_")
    reorder_seconds: t.Seconds = Field(3.0, ge=0, description="Gaps younger than this may still close by themselves.")
    confirm_seconds: t.Seconds = Field(
        60.0, ge=0, description="Seconds between two answers that prove a gap to be the venue's."
    )
    max_age_days: t.Days = Field(30, gt=0, description="Older gaps are recorded as too old.")


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
    """Resource limits."""

    model_config = SettingsConfigDict(env_prefix="LIMITS_")
    min_free_disk_gb: float = Field(
        5.0, ge=0, le=1_000_000, description="History pauses while less disk space is free."
    )
    writer_memory_mb: int = Field(1024, ge=0, le=1_000_000, description="A writer that exceeds it dies; 0: no limit.")


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
    """Return the sections defined as `SETTINGS` in `venues/*/settings.py` and `producers/*/settings.py`, by folder
    name."""
    files = sorted(file for room in ("venues", "producers") for file in (PROJECT / room).glob("*/settings.py"))
    return {file.parent.name: import_module(f"{file.parts[-3]}.{file.parts[-2]}.settings").SETTINGS for file in files}


@cache
def venue_sections() -> dict[str, type[VenueSettings]]:
    """Return the sections of the live venues by name, in the order of their ports."""
    found = {name: one for name, one in folder_sections().items() if issubclass(one, VenueSettings)}
    return dict(sorted(found.items(), key=lambda one: one[1].metrics_offset))


@cache
def sections() -> tuple[type[Section], ...]:
    """Return all sections."""
    return *_SECTIONS, *folder_sections().values()


@cache
def prefixes() -> tuple[str, ...]:
    """Return the prefixes of our settings."""
    return *filter(None, (str(one.model_config["env_prefix"]) for one in sections())), "TRADES_", "METRICS_"


@cache
def _names() -> frozenset[str]:
    return frozenset(name for section in sections() for name in names_of(section))


def is_setting(name: str) -> bool:
    """Return whether an environment variable is read as one of our settings, or refused as a misspelt one. Settings are
    case-insensitive, and some have names without a prefix."""
    return name.upper() in _names() or name.upper().startswith(prefixes())


# Names that Pulsar's own scripts read from the environment.
FOREIGN = re.compile(r"PULSAR_(MEM|GC|EXTRA_OPTS|EXTRA_CLASSPATH|LOG_.*|STANDALONE_.*|CLIENT_CONF|PID_DIR|.*_CONF)")

S = TypeVar("S", bound=Section)


def load(section: type[S], **overrides: Any) -> S:
    """Read one section. `overrides` (by field name, from the command line) take precedence; None means "not given".

    Raises `WrongUse` if the section is invalid or a name is unknown, with one sentence for every error in any section.
    Errors in other sections alone do not raise.
    """
    found = Found(sections(), prefixes(), FOREIGN)
    made, wrong = found.make(section, overrides)
    if made is None or found.wrong:
        others = [text for other in sections() if other is not section for text in found.make(other)[1]]
        raise WrongUse("\n".join([*found.wrong, *wrong, *others]))
    return made


def check_all() -> None:
    """Raise `WrongUse` for all errors in any section. Called before anything starts."""
    found = Found(sections(), prefixes(), FOREIGN)
    wrong = [*found.wrong, *(text for section in sections() for text in found.make(section)[1])]
    if wrong:
        raise WrongUse("\n".join(wrong))
