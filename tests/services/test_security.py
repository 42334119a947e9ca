"""Prevents: a writer that could alter or empty tables, a reader that writes, secrets in what a process shows."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors, sql

from consumers.quote_hours import Hours
from consumers.tickers import Tickers
from consumers.trades import Trades
from pipeline.core.errors import BadData, WrongUse
from pipeline.core.settings import PROJECT, DatabaseSettings, PulsarSettings, load
from pipeline.database.migrate import migrate
from schemas.columns import decode_quote_hour
from tests.messages import T0_US, hour_bytes, received, store, ticker_record, trade, trades_record
from venues.coinbase.settings import CoinbaseSettings

PASSWORD = "s3cret-" + secrets.token_hex(8)


def test_the_writer_role_is_enough_for_all_writers(login: Callable[[str], psycopg.Connection[Any]]) -> None:
    """Prevents: a right that is missing only when an hour is corrected, or when the writer starts."""
    conn = login("market_data_writer")
    assert migrate(conn) == []  # each writer does this when it starts
    assert store(Trades(), conn, [received("trades", trades_record([trade(1), trade(2)]))])[0] == 2
    assert store(Trades(), conn, [received("trades", trades_record([trade(2), trade(3, price="-1")]))])[0] == 0
    assert store(Tickers(), conn, [received("ticker", ticker_record())])[0] == 1
    assert store(Hours(), conn, [received("quotes", hour_bytes([1, 2], [114543, 114544]))])[0] == 2
    corrected = hour_bytes([1, 2], [114543, 114545], fetched_at_us=T0_US + 1_000_000)
    assert store(Hours(), conn, [received("quotes", corrected)])[0] == 2


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM trades",
        "UPDATE trades SET price = 1",
        "TRUNCATE trades",
        "DROP TABLE trades",
        "DELETE FROM trade_coverage",
        "DELETE FROM quote_hours",
        "UPDATE quotes SET bid = 1",
        "CREATE TABLE mine (x int)",
        "ALTER TABLE trades ADD COLUMN x int",
        "UPDATE migrations SET number = 9",
        "CREATE ROLE somebody",
    ],
)
def test_the_writer_role_can_do_no_more(login: Callable[[str], psycopg.Connection[Any]], statement: Any) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        login("market_data_writer").execute(statement)


def test_the_reader_role_reads_everything_and_writes_nothing(login: Callable[[str], psycopg.Connection[Any]]) -> None:
    conn = login("market_data_reader")
    relations = conn.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    ).fetchall()
    names = {row[0] for row in relations}
    assert {"trades", "quotes", "candles_1m", "completeness", "exchange_candles"} <= names
    for name in names:
        conn.execute(sql.SQL("SELECT * FROM {} LIMIT 1").format(sql.Identifier(name)))
    for statement in ("INSERT INTO watchlist VALUES ('A/B')", "DELETE FROM quotes", "CREATE TABLE mine (x int)"):
        with pytest.raises(errors.InsufficientPrivilege):
            conn.execute(statement)  # type: ignore[call-overload]


def test_secrets_are_in_no_log_process_list_or_error(
    env: Callable[..., dict[str, str]], free_port: Callable[[], int], python: str, tmp_path: Path
) -> None:
    """Prevents: a password that a log, `ps` or an error message carries away."""
    environment = env(
        DATABASE_URL=f"postgresql://somebody:{PASSWORD}@127.0.0.1:{free_port()}/nowhere?connect_timeout=1",
        PULSAR_TOKEN=PASSWORD,
        COINBASE_API_KEY=PASSWORD,
        COINBASE_API_SECRET=PASSWORD,
        LOG_LEVEL="DEBUG",
    )
    shown = []
    for module in ("consumers.trades", "producers.kraken", "producers.coinbase", "producers.dukascopy --follow"):
        log = tmp_path / f"{module.split()[0]}.log"
        with log.open("wb") as out:
            process = subprocess.Popen([python, "-m", *module.split()], env=environment, stdout=out, stderr=out)
            try:
                end = time.monotonic() + 30
                while log.stat().st_size < 400 and process.poll() is None and time.monotonic() < end:
                    time.sleep(0.05)
                command = Path(f"/proc/{process.pid}/cmdline").read_bytes() if process.poll() is None else b""
                shown.append(command.decode())
            finally:
                process.kill()
                process.wait()
        assert log.read_text(), f"{module} said nothing: nothing was tested"
        shown.append(log.read_text())
    assert not [text[:500] for text in shown if PASSWORD in text]


def test_secrets_are_in_no_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PULSAR_TOKEN", "COINBASE_API_KEY", "COINBASE_API_SECRET"):
        monkeypatch.setenv(name, PASSWORD)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://somebody:{PASSWORD}@127.0.0.1/nowhere")
    for section in (PulsarSettings, DatabaseSettings, CoinbaseSettings):
        assert PASSWORD not in repr(load(section)) + str(load(section).model_dump())


def test_a_wrong_setting_does_not_show_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSAR_TOKEN_", PASSWORD)
    with pytest.raises(WrongUse) as error:
        load(PulsarSettings)
    assert PASSWORD not in str(error.value)


@pytest.mark.parametrize("claimed", [2**31 - 1, -5])
def test_a_message_cannot_claim_more_than_it_holds(claimed: int) -> None:
    """Prevents: memory asked for by a number in a message instead of by its bytes."""
    good = hour_bytes([1, 2], [114543, 114544])
    count = good.index(bytes([4]), 40)  # zigzag of 2
    zigzag, number = bytearray(), (claimed << 1) ^ (claimed >> 63)
    while number > 0x7F:
        zigzag.append(number & 0x7F | 0x80)
        number >>= 7
    zigzag.append(number)
    with pytest.raises(BadData):
        decode_quote_hour(good[:count] + bytes(zigzag) + good[count + 1 :])


def test_files_with_secrets_are_not_part_of_the_project() -> None:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert not [name for name in listed.stdout.split() if Path(name).name == ".env" or name.endswith((".pem", ".key"))]
    assert os.environ.get("ENV_FILE")


BY_HAND = """
from pathlib import Path
import click
from pipeline.core.runtime import program
@click.command()
@program("test")
def main():
    Path("folder").mkdir()
    Path("folder/file").write_text("")
main()
"""


def test_what_a_program_writes_by_hand_is_for_us_alone(python: str, tmp_path: Path) -> None:
    """Prevents: downloads, state and files of the archive that others read, when nobody but supervisord closes them."""
    done = subprocess.run(
        [python, "-c", BY_HAND], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(PROJECT)}, umask=0o022
    )
    assert done.returncode == 0
    assert [(tmp_path / name).stat().st_mode & 0o077 for name in ("folder", "folder/file")] == [0, 0]
