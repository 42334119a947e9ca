"""Passes of a worker over an exchange, and what a run says of the consensus that it asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ccxt
import psycopg
import pytest

from consumers.candles import Candles as Sink
from consumers.writer import Writer
from pipeline.broker.client import Bus
from pipeline.core.runtime import now_us
from pipeline.core.settings import DatabaseSettings, load
from producers.exchange_candles.ccxt_source import CcxtSource
from producers.exchange_candles.exchange import Exchange
from producers.exchange_candles.letters import Letters
from producers.exchange_candles.plan import Plan
from producers.exchange_candles.rows import floor_us
from producers.exchange_candles.worker import Worker
from schemas.records import Quorum
from tests.candles_help import Candles, events, hours_ago
from tests.scripted_exchange import MIN, Scripted, first_from


@pytest.fixture
def worker(scripted: Scripted, bus: Bus, stop: threading.Event, tmp_path: Path) -> Iterator[Worker]:
    """Follows the last two hours of the scripted exchange, with the writer beside it."""
    writer = threading.Thread(target=Writer("candles-writer", [Sink()], stop).run)
    writer.start()
    exchange = Exchange("binance", stop, tmp_path, base_url=scripted.url)
    exchange.load_markets(1)
    exchange._limit.interval_s = 0.001
    assert isinstance(exchange.source, CcxtSource)
    exchange.source.api.enableRateLimit = False
    now = now_us()
    plan = Plan(60, floor_us(now, MIN) - 120 * MIN, Quorum(["binance"], 1, now), 60_000_000, follow=True)
    name = bus.own_name("exchange-candles")
    made = Worker(exchange, plan, bus, load(DatabaseSettings), Letters(bus, name), name, stop)
    yield made
    made.close()
    stop.set()
    writer.join(15)


def test_a_thin_pair_is_asked_for_once_a_pass(worker: Worker, scripted: Scripted, stop: threading.Event) -> None:
    """Prevents requests as fast as the rate limit allows, and other products from never having their turn, while the
    last minutes of a pair have no trade."""

    def counting(rows: list[list[Any]], start: int, limit: int) -> Any:
        if scripted.calls > 50:
            stop.set()
        return first_from(rows, start, limit)

    del scripted.rows[-4:]
    scripted.script = counting
    for _ in range(3):
        worker.run_pass(["BTC-USD"])
    assert scripted.calls <= 15
    assert not stop.is_set()


def test_markets_that_never_answer_do_not_stop_the_others(
    worker: Worker, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents two broken markets in a row from making an exchange look down in every pass, so that those behind them
    are not asked for."""
    for name in ("ATTEMPTS", "ATTEMPTS_AGAIN"):
        monkeypatch.setattr(f"producers.exchange_candles.exchange.{name}", 1)
    worker.exchange._attempts, worker.exchange.page_size = 1, 20
    scripted.broken = {"BTCUSD", "ETHUSD"}
    for _ in range(2):
        worker.run_pass(["BTC-USD", "ETH-USD", "SOL-USD"])
    assert scripted.asked["SOLUSD"] > 0
    assert scripted.asked["BTCUSD"] > 0


def test_every_exchange_of_ccxt_can_be_named() -> None:
    """Prevents a traceback in place of an answer: of two, ccxt lists granularities that it cannot read itself."""
    offered = {venue: CcxtSource(venue).granularities() for venue in ccxt.exchanges}
    assert sum(60 in widths for widths in offered.values()) > 50


def test_a_consensus_of_another_run_is_named(program: Candles) -> None:
    """Prevents a run whose exchanges and quorum do not count from looking as if they did."""
    program.start_writer()
    flags = (f"--backfill-start-date={hours_ago(2).isoformat()}", "--candle-granularity-minutes=60")
    first = program.run(*flags)
    assert (first.returncode, events(first, "consensus.other")) == (0, []), first.stderr
    with psycopg.connect(program.env["DATABASE_URL"], autocommit=True) as conn:  # as a clock that was ahead made it
        conn.execute("UPDATE consensus_quorum SET as_of = now() + interval '20 hours'")
    (said,) = events(program.run(*flags, "--min-exchanges-required=2"), "consensus.other")
    assert (said["required"], said["exchanges"]) == (3, ["binance", "coinbase", "kraken"])
    (said,) = events(program.run(*flags, "--exchanges=kraken"), "consensus.other")
    assert said["required"] == 3
