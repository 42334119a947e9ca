"""A wrong argument or setting is answered with what was written, where, and what to write instead, and exit code 2."""

from __future__ import annotations

import os
import subprocess

import pytest

from pipeline.core.settings import PROJECT, is_setting

# A command, what its answer must name, and what must be offered.
WRONG = [
    ("producers.kraken --historical --last-n-days 0", "--last-n-days", "greater than 0 (it is 0)"),
    ("producers.kraken --historical --last-n-days many", "'--last-n-days': 'many'", "integer"),
    ("producers.kraken --historical --from yesterday", "--from: invalid time 'yesterday'", "7_days_ago"),
    ("producers.kraken --historical --from 2026-01-02 --to 2026-01-01", "--from '2026-01-02'", "earlier --from"),
    ("producers.kraken --historical --from 2150-01-02", "--from '2150-01-02'", "give an earlier --from"),
    ("producers.kraken --histrical", "--histrical", "'--historical'"),
    (
        "producers.coinbase --historical --last-n-days 1 --from 2026-01-01",
        "--last-n-days 1 and --from '2026-01-01'",
        "give either",
    ),
    ("producers.kraken --from 2026-01-01 --dry-run", "--from, --dry-run: this is for a load", "add --historical"),
    ("producers.dukascopy", "nothing to fetch", "--fill-gaps"),
    ("producers.dukascopy --instruments EURXXX --from 2019-01-01", "'EURXXX'", "DUKASCOPY_INSTRUMENTS_FILE"),
    ("producers.dukascopy --from 2019-02-05 --to 2019-02-04", "--from 2019-02-05", "give an earlier one"),
    ("producers.dukascopy --fill-gaps --feed /nowhere", "--feed: '/nowhere'", "auto, json or bi5"),
    ("producers.dukascopy --follow --to 2019-01-01", "--follow", "leave out --to"),
    (
        "producers.exchange_candles --exchanges=nosuch --symbols BTC/USD",
        "--exchanges: unknown exchange 'nosuch'",
        "ccxt",
    ),
    (
        "producers.exchange_candles --exchanges=kraken,binance --symbols BTC/USD --min-exchanges-required=5",
        "--min-exchanges-required=5",
        "name more or require fewer",
    ),
    ("producers.exchange_candles --exchanges=kraken --run_mode=damp", "'--run-mode': 'damp'", "'wet', 'dry'"),
    (
        "producers.exchange_candles --exchanges=kraken --backfill_start_date=2150-01-01 --symbols BTC/USD",
        "--backfill-start-date 2150-01-01",
        "a moment that has passed",
    ),
    (
        "producers.exchange_candles --exchanges=kraken --backfill-start-date=2_fortnights_ago",
        "--backfill-start-date: invalid time '2_fortnights_ago'",
        "7_days_ago",
    ),
    (
        "producers.exchange_candles --exchanges=kraken --backfill-start-date=30_years_ago --symbols BTC/USD",
        "--backfill-start-date 30_years_ago",
        "candles are stored from 2000-01-01 on",
    ),
    (
        "producers.exchange_candles --exchanges=kraken --candle-granularity-minutes=20160 --symbols BTC/USD",
        "--candle-granularity-minutes=20160",
        "it has 1, 5, 15, 30, 60, 240, 1440, 10080",
    ),
    ("consumers.dead_letters frobnicate", "'frobnicate'", "--help"),
    ("pipeline.verify --product b@d", "--product: 'b@d'", "BTC/USD"),
    ("pipeline.verify --venue a+b", "--venue: 'a+b'", "kraken"),
    ("pipeline.verify --from 2024-01-02 --to 2024-01-02", "--from '2024-01-02' is not before", "an earlier --from"),
    (
        "pipeline.restore_ticks --venue kraken --product BTC-USD --from 2024-01-02 --to 2024-01-01",
        "--from '2024-01-02' is not before --to '2024-01-01'",
        "an earlier --from",
    ),
    ("pipeline.certificate kraken BTC-USD 2026-13-01", "'2026-13-01'", "2026-01-31"),
    ("pipeline.status --wach", "--wach", "'--watch'"),
    ("dashboard --port 99999", "'--port': 99999", "65535"),
    ("judge --seed x", "'--seed': 'x'", "integer"),
]


@pytest.fixture(scope="module")
def answers(python: str) -> dict[str, tuple[int, str]]:
    """Exit code and what was said, of each; some at once, because each is a start of Python."""
    kept = {name: value for name, value in os.environ.items() if not is_setting(name)}
    nowhere = {"PULSAR_URL": "pulsar://127.0.0.1:1", "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d"}
    environment = kept | nowhere | {"ENV_FILE": "/dev/null", "LOG_FORMAT": "json", "METRICS_BASE_PORT": "0"}
    found = {}
    for begin in range(0, len(WRONG), 3):
        running = {
            command: subprocess.Popen(
                [python, "-m", *command.split()],
                env=environment,
                cwd=PROJECT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for command, _, _ in WRONG[begin : begin + 3]
        }
        for command, process in running.items():
            _, said = process.communicate(timeout=120)
            found[command] = process.returncode, said
    return found


@pytest.mark.parametrize(("command", "named", "offered"), WRONG)
def test_a_wrong_word_is_named_and_a_right_one_offered(
    answers: dict[str, tuple[int, str]], command: str, named: str, offered: str
) -> None:
    code, said = answers[command]
    assert code == 2, said
    assert named in said
    assert offered in said
    assert "Traceback" not in said
