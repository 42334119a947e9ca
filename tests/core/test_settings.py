"""Settings: a typing error never silently means "default", and the sentence says what to do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner

from pipeline.core.errors import WrongUse
from pipeline.core.settings import (
    CommonSettings,
    DatabaseSettings,
    PulsarSettings,
    check_all,
    load,
    sections,
)
from producers.exchange_candles.settings import ExchangeCandlesSettings
from tests.settings_help import wrong_lines
from venues.coinbase.settings import CoinbaseSettings
from venues.kraken.settings import KrakenSettings

PATHS = ("SERVICES_DATA", "STATE_DIR", "ARCHIVE_PATH", "PULSAR_TOKEN_FILE", "PULSAR_TLS_CA_FILE")


@pytest.mark.parametrize("text", ['["BTC/USD", "ETH/USD"]', "BTC/USD,ETH/USD", " BTC/USD , ETH/USD "])
def test_products_as_json_or_comma_list(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("KRAKEN_PRODUCT_IDS", text)
    assert load(KrakenSettings).product_ids == ("BTC/USD", "ETH/USD")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("KRAKEN_PRODUCT_IDS", "[]", "give at least one"),
        ("KRAKEN_PRODUCT_IDS", "b@d", "'b@d' is not a valid product id"),
        ("KRAKEN_PRODUCT_IDS", '["BTC/USD"', "is not a JSON list"),
        ("KRAKEN_LAST_N_DAYS", "0", "greater than 0"),
        ("KRAKEN_LAST_N_DAYS", "many", "valid integer"),
        ("TRADES_LIVE_OR_HISTORICAL", "both", "'live' or 'historical'"),
        ("TRADES_PRODUCT_IDS", "../etc/passwd", "'../etc/passwd' is not a valid product id"),
        ("METRICS_PORT", "70000", "less than or equal to 65535 (it is '70000')"),
        ("METRICS_PORT", "-1", "greater than or equal to 0"),
        ("DEBUG", "perhaps", "valid boolean"),
        ("KRAKEN_WS_TIMEOUT", "nan", "finite"),
        ("KRAKEN_WS_TIMEOUT", "inf", "finite"),
        ("KRAKEN_WS_TIMEOUT", "1e300", "less than or equal to"),  # no clock waits so long
        ("KRAKEN_LAST_N_DAYS", "99999999", "less than or equal to"),  # no calendar goes back so far
        ("KRAKEN_REST_RATE", "1e-300", "greater than or equal to"),
        ("EXCHANGE_CANDLES_URLS", "{", "is not a JSON object"),
        ("EXCHANGE_CANDLES_URLS", "[]", "must be a JSON object"),
        ("EXCHANGE_CANDLES_URLS", '{"kraken": "api.kraken.com"}', "'kraken' must start with https://"),
        ("EXCHANGE_CANDLES_SYMBOLS", "BTC/USD,x y", "'x y' is not a valid product id"),
        ("DUKASCOPY_FROM", "yesterday", "invalid time 'yesterday'"),
        ("DUKASCOPY_FROM", "0001-01-01", "between 1970 and 2200"),
        ("PULSAR_TENANT", "a b/c", "is not a valid tenant"),
        ("PULSAR_MEMORY", "16m", "must be at least 128m"),
        ("DATABASE_MEMORY", "12 apples", "is not a valid size"),
        ("PULSAR_TOKEN_FILE", "/nonexistent/token", "is not an existing file"),
        # Seen as tracebacks: what the system does not even look for, or not for this account.
        *((name, "x" * 300, "cannot be used (File name too long)") for name in PATHS),
        *((name, "/proc/1/root/x", "cannot enter") for name in PATHS if not os.access("/proc/1/root", os.X_OK)),
    ],
)
def test_a_wrong_value_is_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    """Under the name that the user wrote: an older one is what stands in his file."""
    monkeypatch.setenv(name, value)
    (line,) = wrong_lines()
    assert line.startswith(f"{name}: ")
    assert said in line


def test_candles_of_exchanges_go_back_a_year_as_the_older_service_did() -> None:
    assert load(ExchangeCandlesSettings).backfill_start_date == "1_year_ago"


def test_settings_of_kafka_get_one_sentence_that_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older service's `.env` must not be answered with a guess for each line."""
    monkeypatch.setenv("TRADES_KAFKA_BROKER_ADDRESS", "localhost:19092")
    monkeypatch.setenv("TRADES_KAFKA_TOPIC_NAME", "trades")
    assert wrong_lines() == [
        "TRADES_KAFKA_BROKER_ADDRESS, TRADES_KAFKA_TOPIC_NAME: Kafka is not used; set PULSAR_URL;"
        " topics follow from venue and product."
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("PULSAR_URL", v)
            for v in (
                "localhost:6650",
                "http://b:8080",
                "pulsar://",
                "pulsar://a b:1",
                "pulsar://a:0",
                "pulsar://a:6650,b:70000",
                "pulsar://hunter2@a:1",
                "pulsar://\u00e4:1",
            )
        ),
        *(("PULSAR_ADMIN_URL", v) for v in ("b:8080", "pulsar://b:8080", "http://b:80800", "http://b/?a=hunter2")),
        *(
            ("DATABASE_URL", v)
            for v in (
                "nonsense",
                "mysql://u:hunter2@h/d",
                "postgresql://u:hunter2@h:99999/d",
                "postgresql://u:hunter2@h/d?sslmode=often",
                "postgresql://u:hunter2@h/d?a=1",
                "host=h port=x password=hunter2",
                "service=hunter2x hostaddr=999.1.1.1",
                "postgresql://u:hunter2@h/d?connect_timeout=soon",
            )
        ),
        *(
            ("KRAKEN_WS_URL", v)
            for v in (
                "ws.kraken.com",
                "https://ws.kraken.com",
                "wss://ws kraken.com",
                "wss://",
                "wss://h:99999",
                "wss://..",
                "wss://[::1",
                "wss://h/\x01",
            )
        ),
        *(("COINBASE_REST_URL", v) for v in ("api.x", "wss://api.x", "https://", "https:///x", "https://h/x?y#z")),
    ],
)
def test_an_address_that_cannot_be_one_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Prevents a traceback, and waiting for ever for a host that cannot be there; what was written may be secret."""
    monkeypatch.setenv(name, value)
    (line,) = wrong_lines()
    assert line.startswith(f"{name}: ")
    assert "hunter2@" not in line
    assert "=hunter2" not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PULSAR_URL", "pulsar+ssl://a.example:6651,b.example:6651/"),
        ("PULSAR_URL", "pulsar://[::1]:6650"),
        ("DATABASE_URL", "postgresql://u:p@one:5432,two:5433/d?target_session_attrs=read-write&sslmode=verify-full"),
        ("DATABASE_URL", "host=/var/run/postgresql dbname=d"),
        ("KRAKEN_WS_URL", " ws://127.0.0.1:8900/kraken/v2 "),
    ],
)
def test_an_address_that_can_be_one_is_not_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    check_all()


@pytest.mark.parametrize("name", ["KRAKEN_PRODUKT_IDS", "METRICS_POTR", "DATABASE_URI"])
def test_an_unknown_name_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(WrongUse, match=f"Unknown setting {name}; did you mean [A-Z_]+\\?"):
        load(KrakenSettings)


def test_every_wrong_field_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRAKEN_LAST_N_DAYS", "-1")
    monkeypatch.setenv("KRAKEN_PRODUCT_IDS", "x")
    with pytest.raises(WrongUse) as wrong:
        load(KrakenSettings)
    assert len(str(wrong.value).splitlines()) == 2


def test_one_start_names_what_is_wrong_in_every_section(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents five starts for five mistakes; and a mistake in one venue's settings that stops another program."""
    monkeypatch.setenv("PULSAR_URL", "localhost:6650")
    monkeypatch.setenv("DUKASCOPY_MAX_RATE", "fast")
    monkeypatch.setenv("TRADES_LAST_N_DAYS", "0")
    with pytest.raises(WrongUse) as wrong:
        load(KrakenSettings)
    assert [line.partition(":")[0] for line in str(wrong.value).splitlines()] == [
        "TRADES_LAST_N_DAYS",
        "PULSAR_URL",
        "DUKASCOPY_MAX_RATE",
    ]
    load(CoinbaseSettings)


def test_a_flag_is_called_by_its_name() -> None:
    """Prevents a sentence about a setting that the user never wrote."""

    @click.command()
    @click.option("--products")
    @click.option("--last-n-days", type=int)
    def main(products: str | None, last_n_days: int | None) -> None:
        with pytest.raises(WrongUse) as wrong:
            load(KrakenSettings, product_ids=products, last_n_days=last_n_days)
        click.echo(str(wrong.value))

    said = CliRunner().invoke(main, ["--products", "b@d", "--last-n-days", "0"], catch_exceptions=False).output
    assert [line.split(":")[0] for line in said.splitlines()] == ["--products", "--last-n-days"]


def test_the_old_service_s_names_still_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TRADES_PRODUCT_IDS": "ETH/EUR",
        "TRADES_LAST_N_DAYS": "3",
        "TRADES_LIVE_OR_HISTORICAL": "historical",
        "TRADES_LOG_LEVEL": "debug",
        "TRADES_LOG_FORMAT": "console",
        "TRADES_APP_NAME": "mine",
        "TRADES_DEBUG": "true",
        "CHANNELS": "ticker",
        "WS_TIMEOUT": "7",
        "METRICS_PORT": "9999",
        "LOG_LEVEL": "ERROR",
    }.items():
        monkeypatch.setenv(name, value)
    kraken, common, coinbase = load(KrakenSettings), load(CommonSettings), load(CoinbaseSettings)
    assert (kraken.product_ids, kraken.last_n_days, kraken.live_or_historical) == (("ETH/EUR",), 3, "historical")
    assert (common.log_format, common.app_name, common.debug) == ("console", "mine", True)
    assert (coinbase.channels, coinbase.ws_timeout, coinbase.metrics_port) == (("ticker",), 7, 9999)
    assert common.log_level == "ERROR", "the new name wins over the old one"


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hunter2@db/x")
    monkeypatch.setenv("PULSAR_TOKEN", "hunter2")
    monkeypatch.setenv("COINBASE_API_SECRET", "hunter2")
    shown = "".join(repr(load(section)) + str(load(section)) for section in sections())
    assert "hunter2" not in shown
    assert load(DatabaseSettings).conninfo == "postgresql://me:hunter2@db/x"


@pytest.mark.parametrize(
    ("url", "admin"),
    [
        ("pulsar://a:6650,b:6650", "http://a:8080"),
        ("pulsar+ssl://broker.example:6651", "https://broker.example:8443"),
        ("pulsar://[::1]", "http://[::1]:8080"),
    ],
)
def test_the_admin_address_follows_the_broker_s(monkeypatch: pytest.MonkeyPatch, url: str, admin: str) -> None:
    monkeypatch.setenv("PULSAR_URL", url)
    assert load(PulsarSettings).admin == admin


@pytest.mark.parametrize("module", ["consumers.trades", "consumers.quotes", "producers.kraken", "pipeline.verify"])
def test_a_process_ends_with_2_and_the_sentence(env: Callable[..., dict[str, str]], python: str, module: str) -> None:
    environment = env(PULSAR_TOPIC_PARTITIONS="minus one", KRAKEN_LAST_N_DAYS=1, DATABASE_RETENTION="1")
    run = subprocess.run(
        [python, "-m", module], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 2
    assert "Unknown setting DATABASE_RETENTION; did you mean DATABASE_RETENTION_DAYS?" in run.stderr
    assert "PULSAR_TOPIC_PARTITIONS: must be a valid integer" in run.stderr
    assert "Traceback" not in run.stderr
