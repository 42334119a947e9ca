"""OANDA's candles: complete, final only when the venue says so, and stored beside its live prices."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import WrongAnswer, WrongUse
from pipeline.core.runtime import now_us
from pipeline.core.settings import PROJECT
from pipeline.core.times import iso_to_us
from producers.exchange_candles.exchange import Exchange
from producers.exchange_candles.looks import look_of
from simulator.candles import candles
from simulator.tape import fixed
from simulator.testing import Simulator, running_simulator
from tests.candles_help import Candles, events, hours_ago
from venues.candle_source import GivenCandles
from venues.oanda.candles import read_candles

MIN = 60_000_000
OANDA = ("--exchanges=oanda", "--symbols=EUR/USD,XAU/USD")


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(seed=43) as started:
        yield started


def test_minutes_are_complete_a_bad_row_is_named_and_a_second_run_heals_it(program: Candles) -> None:
    """Prevents missing or wrong minutes, a state over what was refused, and wasted calls."""
    program.env["OANDA_REST_RATE"] = "50"
    program.start_writer()
    program.simulator.fault("nan-row", "oanda", seconds=600, products=["XAU_USD"], every=400, value="none")
    start = hours_ago(20)
    end = start + timedelta(hours=20)
    flags = (*OANDA, f"--backfill-start-date={start.isoformat()}")
    result = program.run(*flags)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "oanda XAU-USD" in result.stderr
    assert "EUR-USD" not in result.stderr
    (line,) = (one for one in events(result, "load.candles_processed") if one["product"] == "EUR-USD")
    assert line["candles"] >= 1200
    assert program.calls()["oanda"] <= 12  # a page holds 5,000; asked for twice, and what closed meanwhile
    count = (
        "SELECT product_id, asset_class, proof, count(*) FROM exchange_candles JOIN instruments USING (instrument_id)"
        " WHERE venue = 'oanda' AND final AND bucket >= %s AND bucket < %s GROUP BY 1, 2, 3 ORDER BY 1"
    )
    bad = sum((int(start.timestamp()) // 60 + n) % 400 == 0 for n in range(1200))
    assert program.rows(count, start, end) == [
        ("EUR-USD", "forex", "sampled", 1200),
        ("XAU-USD", "metal", "sampled", 1200 - bad),
    ]
    tape = program.simulator.tape("oanda", "EUR-USD")
    begin = int(start.timestamp())
    expected = candles(tape, begin, begin + 20 * 3600, 60, program.simulator.now_ns())
    stored = program.rows(
        "SELECT extract(epoch FROM bucket)::bigint, open, high, low, close, volume FROM exchange_candles"
        " JOIN instruments USING (instrument_id) WHERE product_id = 'EUR-USD' AND bucket >= %s AND bucket < %s"
        " ORDER BY bucket",
        start,
        end,
    )
    assert [(row[0], *(f"{price:f}" for price in row[1:5]), row[5]) for row in stored] == [
        (c.start_s, *(fixed(price, 5) for price in c[1:5]), c.trades) for c in expected
    ]
    assert program.rows("SELECT count(*) FROM consensus_candles_1m WHERE bucket < %s", end)[0][0] == 2400 - bad

    (state,) = (row for row in program.rows((PROJECT / "sql/status_candles.sql").read_text()) if row[1] == "EUR-USD")
    assert state[3] >= 1200
    assert 0 < state[4] < 600

    program.simulator.clear()
    program.simulator.reset_stats()
    again = program.run(*flags)
    assert again.returncode == 0, again.stdout + again.stderr
    assert [row[3] for row in program.rows(count, start, end)] == [1200, 1200]
    assert program.calls()["oanda"] <= 2 * bad + 6


def test_a_refused_token_is_one_sentence(program: Candles) -> None:
    """Prevents "try again later" for what only another token helps."""
    program.env["OANDA_TOKEN"] = "wrong"
    result = program.run("--run-mode=dry", *OANDA)
    assert (result.returncode, "correct OANDA_TOKEN" in result.stderr) == (2, True), result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_without_a_token_or_with_another_address_it_says_which_setting(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="set OANDA_TOKEN and OANDA_ACCOUNT"):
        Exchange("oanda", threading.Event(), tmp_path)
    with pytest.raises(WrongUse, match="OANDA_REST_URL"):
        Exchange("oanda", threading.Event(), tmp_path, base_url="http://127.0.0.1:1")


def answer(*minutes: str, granularity: str = "M1", **last: Any) -> bytes:
    """Candles of these minutes of one hour, the last one with some fields changed."""
    given: list[dict[str, Any]] = [
        {
            "complete": True,
            "volume": 7,
            "time": f"2026-11-26T18:{minute}:00.000000000Z",
            "mid": {"o": "1.1", "h": "1.2", "l": "1.0", "c": "1.15"},
        }
        for minute in minutes
    ]
    given[-1] |= last
    return json.dumps({"instrument": "EUR_USD", "granularity": granularity, "candles": given}).encode()


def read(body: bytes) -> GivenCandles:
    return read_candles(body, "EUR_USD", "M1", None)


def test_an_odd_candle_costs_itself() -> None:
    """Prevents one malformed candle from costing the five thousand beside it."""
    for last in ({"complete": "no"}, {"time": None}, {"mid": None}, {"mid": {"o": "1"}}):
        (good, _), (bad, raw) = read(answer("00", "01", **last)).pairs
        assert good[1:] == ["1.1", "1.2", "1.0", "1.15", 7]
        assert isinstance(bad, Exception)
        assert raw["volume"] == 7


@pytest.mark.parametrize("body", [b"[]", b"{}", answer("00", granularity="S5"), b'{"candles":[]}'])
def test_an_answer_about_something_else_is_none(body: bytes) -> None:
    """Prevents the venue's default of five seconds, or an empty object, from counting as an answer."""
    with pytest.raises(WrongAnswer):
        read(body)


def test_a_candle_that_the_venue_calls_incomplete_is_not_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a minute from being final by our clock while the venue still fills it."""
    monkeypatch.setenv("OANDA_TOKEN", "t")
    monkeypatch.setenv("OANDA_ACCOUNT", "a")
    exchange = Exchange("oanda", threading.Event(), tmp_path)
    since_us = iso_to_us("2026-11-26T18:00:00Z")
    assert now_us() > since_us + 60 * MIN
    for last, closed in (({}, 3), ({"complete": False}, 2)):
        given = read(answer("00", "01", "02", **last))
        monkeypatch.setattr(exchange.source, "fetch", lambda *_, given=given: given)
        made = exchange.candles("EUR-USD", 60, since_us, 3)
        assert len(made.rows.good) == 3
        assert sum(bucket + MIN <= made.at_us for bucket in made.rows.good) == closed
        assert look_of(made, since_us, 3, MIN).spans == [(since_us, since_us + 3 * MIN)]
