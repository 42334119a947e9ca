"""The file of settings: a line that is not a setting never silently means "default", whatever editor wrote it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.core.settings import CommonSettings, PulsarSettings, check_all, load
from tests.settings_help import wrong_lines
from venues.kraken.settings import KrakenSettings


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("KRAKEN_PRODUCT_IDS=SOL/USD\nKRAKEN_LAST_N_DAYS=9\nPULSAR_URL=\n")
    monkeypatch.setenv("ENV_FILE", str(file))
    monkeypatch.setenv("KRAKEN_LAST_N_DAYS", "2")
    assert load(KrakenSettings).product_ids == ("SOL/USD",)
    assert load(KrakenSettings).last_n_days == 2
    assert load(PulsarSettings).private, "an empty value means unset"
    monkeypatch.setenv("TRADES_PRODUCT_IDS", "ADA/USD")
    assert load(KrakenSettings).product_ids == ("ADA/USD",), "by whichever name"


@pytest.fixture
def dot_env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    file = tmp_path / "settings"
    monkeypatch.setenv("ENV_FILE", str(file))
    return file


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("KRAKEN_NONSENSE=1\n", 1, "Unknown setting KRAKEN_NONSENSE"),
        ("\n# a comment\n\nLOGLEVEL=DEBUG\n", 4, "did you mean LOG_LEVEL?"),
        ("KRAKEN_LAST_N_DAYS 5\n", 1, "not a setting"),
        ("KRAKEN_LAST_N_DAYS: 5\n", 1, "not a setting"),
        ("KRAKEN_TICKER=true\r\nKRAKEN_LAST_N_DAYS\r\n", 2, "not a setting"),
        ("set KRAKEN_LAST_N_DAYS=5\n", 1, "not a setting"),
        ("KRAKEN-LAST-N-DAYS=5\n", 1, "not a setting"),
        ("PULSAR_TOKEN='hunter2\nKRAKEN_TICKER=true\n", 1, "not a setting"),
        ('PULSAR_TOKEN="hunter2" hunter2\n', 1, "not a setting"),
        ("KRAKEN_TICKER=true\nexport kraken_ticker=false\n", 2, "is set in line 1 already"),
        ("COINBASE_API_KEY='a\nb'\nkraken_last_n_days=-3 # three\n", 3, "greater than 0 (it is '-3')"),
        ("DATABASE_URL=postgresql://u:hunter2@h:99999/d\r", 1, "invalid port"),
    ],
)
def test_a_line_that_is_no_setting_is_refused_with_its_number(dot_env: Path, text: str, line: int, said: str) -> None:
    """Prevents that a mistake in the file silently means "default"; what the line says may be secret."""
    dot_env.write_bytes(text.encode())
    (wrong,) = wrong_lines()
    assert f"{dot_env} line {line}" in wrong
    assert said in wrong
    assert "hunter2" not in wrong


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_file_is_read_in_the_encoding_that_an_editor_saved(dot_env: Path, encoding: str) -> None:
    dot_env.write_bytes(
        "# \u00fc\r\nexport APP_NAME='b\u00e4r # 1' # inline\r\nKRAKEN_LAST_N_DAYS = 3\r\n".encode(encoding)
    )
    assert load(CommonSettings).app_name == "b\u00e4r # 1"
    assert load(KrakenSettings).last_n_days == 3


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("KRAKEN_TICKER=true\nPULSAR_TOKEN=p\u00e4\n".encode("latin-1"), "line 2 is not UTF-8 text"),
        ("KRAKEN_TICKER=true\n".encode("utf-16-le"), "NUL"),
        (b"\xff\xfeK", "not UTF-16 text"),
        (b"A=" + b"x" * 5_000_000, "larger than"),
    ],
)
def test_a_file_that_cannot_be_read_for_certain_is_refused(dot_env: Path, data: bytes, said: str) -> None:
    """Prevents a password that was guessed from bytes of an unknown encoding."""
    dot_env.write_bytes(data)
    (wrong,) = wrong_lines()
    assert said in wrong


def test_what_is_no_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Prevents a traceback for a folder, and a start that waits for a pipe that nobody writes to."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        monkeypatch.setenv("ENV_FILE", str(path))
        assert "is not a file" in wrong_lines()[0]
    monkeypatch.setenv("ENV_FILE", os.devnull)
    check_all()
