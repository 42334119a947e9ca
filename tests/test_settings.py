"""Settings: a typing error never silently means "default", and the sentence says what to do."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import WrongUse
from pipeline.settings import (
    SECTIONS,
    CoinbaseSettings,
    CommonSettings,
    DatabaseSettings,
    KrakenSettings,
    PulsarSettings,
    load,
)


@pytest.mark.parametrize("text", ['["BTC/USD", "ETH/USD"]', "BTC/USD,ETH/USD", " BTC/USD , ETH/USD "])
def test_products_as_json_or_comma_list(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("KRAKEN_PRODUCT_IDS", text)
    assert load(KrakenSettings).product_ids == ("BTC/USD", "ETH/USD")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("KRAKEN_PRODUCT_IDS", "[]", "name at least one"),
        ("KRAKEN_PRODUCT_IDS", "btc/usd", "'btc/usd' is no product id"),
        ("KRAKEN_PRODUCT_IDS", '["BTC/USD"', "is no JSON list"),
        ("KRAKEN_LAST_N_DAYS", "0", "greater than 0"),
        ("KRAKEN_LAST_N_DAYS", "many", "valid integer"),
        ("TRADES_LIVE_OR_HISTORICAL", "both", "'live' or 'historical'"),
        ("KRAKEN_PRODUKT_IDS", "BTC/USD", "did you mean KRAKEN_PRODUCT_IDS?"),
    ],
)
def test_a_wrong_value_is_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongUse) as wrong:
        load(KrakenSettings)
    lines = str(wrong.value).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(name.replace("TRADES_LIVE", "KRAKEN_LIVE"))
    assert said in lines[0]


def test_every_wrong_field_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRAKEN_LAST_N_DAYS", "-1")
    monkeypatch.setenv("KRAKEN_PRODUCT_IDS", "x")
    with pytest.raises(WrongUse) as wrong:
        load(KrakenSettings)
    assert len(str(wrong.value).splitlines()) == 2


def test_the_old_service_s_names_still_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TRADES_PRODUCT_IDS": "ETH/EUR", "TRADES_LAST_N_DAYS": "3", "TRADES_LIVE_OR_HISTORICAL": "historical",
        "TRADES_LOG_LEVEL": "debug", "TRADES_LOG_FORMAT": "console", "TRADES_APP_NAME": "mine", "TRADES_DEBUG": "true",
        "CHANNELS": "ticker", "WS_TIMEOUT": "7", "METRICS_PORT": "9999", "LOG_LEVEL": "ERROR",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    kraken, common, coinbase = load(KrakenSettings), load(CommonSettings), load(CoinbaseSettings)
    assert (kraken.product_ids, kraken.last_n_days, kraken.live_or_historical) == (("ETH/EUR",), 3, "historical")
    assert (common.log_format, common.app_name, common.debug) == ("console", "mine", True)
    assert (coinbase.channels, coinbase.ws_timeout, coinbase.metrics_port) == (("ticker",), 7, 9999)
    assert common.log_level == "ERROR", "the new name wins over the old one"


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("KRAKEN_PRODUCT_IDS=SOL/USD\nKRAKEN_LAST_N_DAYS=9\nPULSAR_URL=\n")
    monkeypatch.setenv("ENV_FILE", str(file))
    monkeypatch.setenv("KRAKEN_LAST_N_DAYS", "2")
    assert load(KrakenSettings).product_ids == ("SOL/USD",)
    assert load(KrakenSettings).last_n_days == 2
    assert load(PulsarSettings).private, "an empty value means unset"
    file.write_text("KRAKEN_NONSENSE=1\n")
    with pytest.raises(WrongUse, match="KRAKEN_NONSENSE is no setting"):
        load(KrakenSettings)


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hunter2@db/x")
    monkeypatch.setenv("PULSAR_TOKEN", "hunter2")
    monkeypatch.setenv("COINBASE_API_SECRET", "hunter2")
    shown = "".join(repr(load(section)) + str(load(section)) for section in SECTIONS)
    assert "hunter2" not in shown
    assert load(DatabaseSettings).conninfo == "postgresql://me:hunter2@db/x"


@pytest.mark.parametrize(
    ("url", "admin"),
    [
        ("pulsar://a:6650,b:6650", "http://a:8080"),
        ("pulsar+ssl://broker.example:6651", "https://broker.example:8443"),
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
    assert "DATABASE_RETENTION is no setting; did you mean DATABASE_RETENTION_DAYS?" in run.stderr
    assert "Traceback" not in run.stderr
