"""Every setting there is, by section; read from the environment and from `.env`.

A section is a frozen model with one prefix. `load(Section)` gives it or raises `WrongUse` with one sentence per
wrong field. A key with a known prefix that no section knows is refused with the nearest name, so that a typing
error never silently means "default". The environment wins over `.env`; `ENV_FILE` names another file.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from dotenv import dotenv_values
from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, FilePath, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pipeline.errors import WrongUse

PROJECT = Path(__file__).resolve().parent.parent
PRODUCT_PATTERN = re.compile(r"[A-Z0-9]{2,10}[/\-]?[A-Z0-9]{2,10}")


def _items(value: Any) -> Any:
    """Accept a JSON list (`["BTC/USD"]`) or a comma list (`BTC/USD,ETH/USD`)."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError('is no JSON list; write ["BTC/USD", "ETH/USD"] or BTC/USD,ETH/USD') from None
    return [item.strip() for item in value.split(",") if item.strip()]


def _not_empty(items: tuple[str, ...]) -> tuple[str, ...]:
    if not items:
        raise ValueError("is empty; name at least one")
    return items


def _products(items: tuple[str, ...]) -> tuple[str, ...]:
    for item in items:
        if not PRODUCT_PATTERN.fullmatch(item):
            raise ValueError(f"{item!r} is no product id; write it like BTC/USD or BTC-USD, in capitals")
    return _not_empty(items)


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_items)]
Products = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_items), AfterValidator(_products)]


def either(*names: str) -> Any:
    """The environment names of one field, the canonical one first."""
    return AliasChoices(*names)


class Section(BaseSettings):
    """Base of all sections: frozen, read from the environment, strangers ignored here and refused in `load`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True)


class CommonSettings(Section):
    """Logging and the local ports of `/health` and `/metrics`."""

    app_name: str = Field("market-data", validation_alias=either("APP_NAME", "TRADES_APP_NAME"))
    debug: bool = Field(False, validation_alias=either("DEBUG", "TRADES_DEBUG"))
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(lambda v: str(v).upper())] = (
        Field("INFO", validation_alias=either("LOG_LEVEL", "TRADES_LOG_LEVEL", "COINBASE_LOG_LEVEL"))
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", validation_alias=either("LOG_FORMAT", "TRADES_LOG_FORMAT")
    )
    metrics_base_port: int = Field(9100, ge=0, le=65000, validation_alias=either("METRICS_BASE_PORT"))
    state_dir: Path = Field(
        PROJECT / ".services" / "state",
        validation_alias=either("STATE_DIR"),
        description="Files that processes of one machine share: rate limits, raw downloads.",
    )


class PulsarSettings(Section):
    """The broker. Without `PULSAR_URL` it is the private one of this checkout."""

    model_config = SettingsConfigDict(env_prefix="PULSAR_")
    url: str | None = None
    admin_url: str | None = None
    port: int = Field(6650, ge=1, le=65535)
    admin_port: int = Field(8080, ge=1, le=65535)
    advertised_port: int = Field(0, ge=0, le=65535, description="Where clients are told to come; 0: port.")
    tenant: str = Field("market-data", pattern=r"[a-zA-Z0-9_=:.\-]+")
    token: SecretStr | None = None
    token_file: FilePath | None = None
    tls_ca_file: FilePath | None = None
    memory: str = Field("512m", pattern=r"\d+[mg]", description="Heap of the private broker; as much again direct.")
    topic_partitions: int = Field(0, ge=0, le=1000, description="0: topics are not partitioned.")
    history_backlog_mb: int = Field(200, ge=1, description="History pauses while its backlog is larger.")

    @property
    def private(self) -> bool:
        """Whether this checkout runs the broker itself."""
        return self.url is None

    @property
    def service_url(self) -> str:
        return self.url or f"pulsar://127.0.0.1:{self.port}"

    @property
    def admin(self) -> str:
        """Base address of the admin REST interface, derived from `PULSAR_URL` unless given."""
        if self.admin_url:
            return self.admin_url.rstrip("/")
        if self.url is None:
            return f"http://127.0.0.1:{self.admin_port}"
        scheme, _, rest = self.url.partition("://")
        host = rest.split(",")[0].rsplit(":", 1)[0]
        return f"https://{host}:8443" if scheme == "pulsar+ssl" else f"http://{host}:8080"


class DatabaseSettings(Section):
    """TimescaleDB. Without `DATABASE_URL` it is the private one of this checkout."""

    model_config = SettingsConfigDict(env_prefix="DATABASE_")
    url: SecretStr | None = None
    port: int = Field(5433, ge=1, le=65535)
    memory: str = Field("1g", pattern=r"\d+[mg]", description="Memory that the private database may count on.")
    retention_days: int = Field(0, ge=0, description="0: keep for ever. Otherwise older ticks are dropped.")

    @property
    def private(self) -> bool:
        return self.url is None

    @property
    def conninfo(self) -> str:
        """What psycopg is given. The private database trusts the loopback."""
        if self.url is not None:
            return self.url.get_secret_value()
        return f"postgresql://postgres@127.0.0.1:{self.port}/market_data"


class ServicesSettings(Section):
    """The private broker and database under `.services/`."""

    model_config = SettingsConfigDict(env_prefix="SERVICES_")
    data: Path = PROJECT / ".services" / "data"
    cache: Path = Path.home() / ".cache" / "market-data-services"


class KrakenSettings(Section):
    """Kraken trades and tickers (the old service's `TRADES_` names still work)."""

    model_config = SettingsConfigDict(env_prefix="KRAKEN_")
    enabled: bool = True
    product_ids: Products = Field(("BTC/USD",), validation_alias=either("KRAKEN_PRODUCT_IDS", "TRADES_PRODUCT_IDS"))
    live_or_historical: Literal["live", "historical"] = Field(
        "live", validation_alias=either("KRAKEN_LIVE_OR_HISTORICAL", "TRADES_LIVE_OR_HISTORICAL")
    )
    last_n_days: int = Field(1, gt=0, validation_alias=either("KRAKEN_LAST_N_DAYS", "TRADES_LAST_N_DAYS"))
    ticker: bool = True
    ws_url: str = "wss://ws.kraken.com/v2"
    rest_url: str = "https://api.kraken.com/0/public"
    ws_timeout: float = Field(10, gt=0, description="Seconds without any frame after which the link is dead.")
    rest_rate: float = Field(1.0, gt=0, description="REST calls a second and pair that Kraken allows.")
    quiet_seconds: float = Field(15.0, gt=0, description="A product silent for less is not asked after at REST.")


class CoinbaseSettings(Section):
    """Coinbase Advanced Trade stream, Exchange REST for history."""

    model_config = SettingsConfigDict(env_prefix="COINBASE_")
    enabled: bool = True
    product_ids: Products = Field(
        ("BTC-USD", "ETH-USD"), validation_alias=either("COINBASE_PRODUCT_IDS", "PRODUCT_IDS")
    )
    channels: Annotated[Names, AfterValidator(_not_empty)] = Field(
        ("market_trades", "ticker", "candles"), validation_alias=either("COINBASE_CHANNELS", "CHANNELS")
    )
    ws_timeout: float = Field(30, gt=0, validation_alias=either("COINBASE_WS_TIMEOUT", "WS_TIMEOUT"))
    metrics_port: int | None = Field(None, validation_alias=either("COINBASE_METRICS_PORT", "METRICS_PORT"))
    last_n_days: int = Field(1, gt=0)
    api_key: SecretStr | None = None
    api_secret: SecretStr | None = None
    ws_url: str = "wss://advanced-trade-ws.coinbase.com"
    rest_url: str = "https://api.exchange.coinbase.com"
    rest_rate: float = Field(8.0, gt=0, description="REST calls a second; Coinbase allows 10 per address.")
    quiet_seconds: float = Field(15.0, gt=0, description="A product silent for less is not asked after at REST.")


class DukascopySettings(Section):
    """Dukascopy history: quotes by the hour."""

    model_config = SettingsConfigDict(env_prefix="DUKASCOPY_")
    enabled: bool = True
    instruments: Annotated[Names, AfterValidator(_not_empty)] = ("EURUSD", "BTCUSD")
    feed: str = Field("auto", description="auto, json, bi5 or a folder of bi5 files.")
    start: str = Field("7_days_ago", validation_alias=either("DUKASCOPY_FROM"), description="First hour wanted.")
    bi5_url: str = "https://datafeed.dukascopy.com/datafeed"
    json_url: str = "https://jetta.dukascopy.com/v1"
    instruments_file: Path | None = Field(None, description="Adds to or overrides the built-in instruments.")
    poll_seconds: float = Field(600, gt=0, description="Pause between two looks for new hours with --follow.")
    max_rate: float = Field(10.0, gt=0, description="Upper bound of the adaptive request rate, a second.")
    connections: int = Field(4, ge=1, le=16)
    empty_confirm_seconds: float = Field(600, ge=0, description="Two empty answers must lie this far apart.")
    retry_seconds: float = Field(5, ge=0, description="First pause after a failed call; doubled up to 5 minutes.")
    cache: bool = Field(True, description="Keep raw answers on disk, so that a second load asks nobody.")


class ExchangeCandlesSettings(Section):
    """Candles of many exchanges by ccxt."""

    model_config = SettingsConfigDict(env_prefix="EXCHANGE_CANDLES_")
    enabled: bool = False
    exchanges: Annotated[Names, AfterValidator(_not_empty)] = ("binance", "coinbase", "kraken")
    symbols: Names = Field((), description="Empty: the file, then the table watchlist.")
    symbols_file: Path | None = Field(None, description="One symbol a line; # begins a comment.")
    granularity_minutes: int = Field(1, gt=0)
    backfill_start_date: str = Field("1_days_ago", description="1_year_ago, N_days_ago, N_hours_ago or an ISO date.")
    min_exchanges_required: int = Field(0, ge=0, description="0: all that were named.")
    api_call_delay_seconds: float = Field(0.0, ge=0, allow_inf_nan=False)
    urls: dict[str, str] = Field(default_factory=dict, description="JSON: other addresses (https://host), by exchange.")
    poll_seconds: float = Field(
        60, ge=1, allow_inf_nan=False, description="Pause between two looks for closed candles with --follow."
    )
    settle_seconds: float = Field(
        60, ge=0, le=86_400, description="A candle is final after two equal looks, the second so long after its close."
    )


class GapFillerSettings(Section):
    """Repair of missing trade ids."""

    model_config = SettingsConfigDict(env_prefix="GAP_FILLER_")
    reorder_seconds: float = Field(3.0, ge=0, description="A hole this young may still close by itself.")
    confirm_seconds: float = Field(60.0, ge=0, description="Two answers this far apart make a hole the venue's own.")
    max_age_days: int = Field(30, gt=0, description="Holes further back are recorded as too old.")


class DashboardSettings(Section):
    """The web page."""

    model_config = SettingsConfigDict(env_prefix="DASHBOARD_")
    port: int = Field(8500, ge=0, le=65535)


class LimitSettings(Section):
    """When to hold back."""

    model_config = SettingsConfigDict(env_prefix="LIMITS_")
    min_free_disk_gb: float = Field(5.0, ge=0, description="History pauses while less disk is free.")


SECTIONS: tuple[type[Section], ...] = (
    CommonSettings, PulsarSettings, DatabaseSettings, ServicesSettings, KrakenSettings, CoinbaseSettings,
    DukascopySettings, ExchangeCandlesSettings, GapFillerSettings, DashboardSettings, LimitSettings,
)  # fmt: skip
PREFIXES = (
    "PULSAR_", "DATABASE_", "SERVICES_", "KRAKEN_", "COINBASE_", "DUKASCOPY_", "EXCHANGE_CANDLES_", "GAP_FILLER_",
    "DASHBOARD_", "LIMITS_", "TRADES_", "METRICS_",
)  # fmt: skip
# Names that Pulsar's own scripts read from the environment: not ours, not refused.
FOREIGN = re.compile(r"PULSAR_(MEM|GC|EXTRA_OPTS|EXTRA_CLASSPATH|LOG_.*|STANDALONE_.*|CLIENT_CONF|PID_DIR|.*_CONF)")

S = TypeVar("S", bound=Section)


def env_file() -> Path:
    """The `.env` in use: `ENV_FILE`, or the one beside the project."""
    return Path(os.environ.get("ENV_FILE", PROJECT / ".env"))


def names_of(section: type[Section]) -> dict[str, str]:
    """Environment name -> field name of one section."""
    names: dict[str, str] = {}
    prefix = str(section.model_config.get("env_prefix", ""))
    for field, info in section.model_fields.items():
        alias = info.validation_alias
        for name in alias.choices if isinstance(alias, AliasChoices) else [f"{prefix}{field}".upper()]:
            names[str(name)] = field
    return names


@cache
def known_names() -> frozenset[str]:
    """Every environment name that some section reads."""
    return frozenset(name for section in SECTIONS for name in names_of(section))


def refuse_unknown() -> None:
    """Raise `WrongUse` for a key with a known prefix that nobody reads."""
    given = {key.upper() for key in (*os.environ, *dotenv_values(env_file()))}
    wrong = []
    for key in sorted(given - known_names()):
        if key.startswith(PREFIXES) and not FOREIGN.fullmatch(key):
            near = difflib.get_close_matches(key, known_names(), n=1, cutoff=0.5)
            wrong.append(f"{key} is no setting" + (f"; did you mean {near[0]}?" if near else "; see .env.example."))
    if wrong:
        raise WrongUse("\n".join(wrong))


def load(section: type[S], **overrides: Any) -> S:
    """Read one section. `overrides` (from the command line, by field name) win; None means "not given".

    Raises `WrongUse` with one sentence per wrong field.
    """
    refuse_unknown()
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return section(_env_file=env_file(), **given)  # type: ignore[call-arg]
    except ValidationError as error:
        env_names = {field: name for name, field in reversed(names_of(section).items())}
        raise WrongUse("\n".join(_sentence(one, env_names) for one in error.errors())) from None


def _sentence(error: Any, env_names: dict[str, str]) -> str:
    field = str(error["loc"][0]) if error["loc"] else "?"
    name = env_names.get(field, field)
    text = str(error["msg"]).removeprefix("Value error, ")
    value = error.get("input")
    secret = any(word in name for word in ("SECRET", "KEY", "TOKEN", "URL"))
    shown = "" if secret or error["type"] == "value_error" else f" (it is {value!r})"
    return f"{name}: {text}{shown}."
