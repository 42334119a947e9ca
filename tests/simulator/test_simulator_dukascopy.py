"""The simulated Dukascopy gives recorded bytes as they are, both feeds say the same, and its faults are real."""

from __future__ import annotations

import asyncio
import json
import lzma
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from simulator.testing import Simulator, running_simulator
from simulator.venues.dukascopy.answers import ticks_json
from simulator.venues.dukascopy.hours import decode_bi5, encode_bi5, invent_hour
from tests.simulator_client import RECORDINGS, get

HOUR = "EURUSD/2019/01/04/00h_ticks.bi5"
BI5 = RECORDINGS / "dukascopy" / "bi5"
JETTA = RECORDINGS / "dukascopy" / "jetta"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(seed=11, synthesize_hours=200) as running:
        yield running


def fetch(simulator: Simulator, path: str, feed: str = "BI5") -> tuple[int, bytes]:
    async def run() -> tuple[int, bytes]:
        url = f"{simulator.environment()[f'DUKASCOPY_{feed}_URL']}/{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, await response.read()

    return asyncio.run(run())


def test_every_recorded_file_is_given_as_it_is(simulator: Simulator) -> None:
    files = list(BI5.rglob("*.bi5"))
    assert len(files) == 28
    for path in files:
        assert fetch(simulator, str(path.relative_to(BI5))) == (200, path.read_bytes())
    assert fetch(simulator, "EURUSD/2019/01/05/00h_ticks.bi5")[0] == 404
    assert fetch(simulator, "EURUSD/2019/01/31/00h_ticks.bi5")[0] == 404


def test_every_recorded_json_answer_is_given_as_it_is(simulator: Simulator) -> None:
    for path, name in (
        ("ticks/BTC-USD/2023/2/20/12", "ticks-BTC-USD-2023-2-20-12"),
        ("ticks/EUR-USD/2026/7/13/12", "ticks-EUR-USD-2026-7-13-12"),
        ("candles/minute/EUR-USD/BID/2026/7/10", "candles-minute-EUR-USD-BID-2026-7-10"),
        ("candles/minute/EUR-USD/BID/2026/7/11", "candles-minute-EUR-USD-BID-2026-7-11-empty"),
    ):
        assert fetch(simulator, path, "JSON") == (200, (JETTA / f"{name}.json").read_bytes())
    status, body = fetch(simulator, "instruments/EUR-USD", "JSON")
    assert status == 200
    assert json.loads(body) == json.loads((JETTA / "instrument-EUR-USD.json").read_text())


def test_an_hour_derived_from_bi5_is_written_as_the_json_feed_writes_it() -> None:
    """Times, asks and bids to the last character; only the volumes are bi5's rounded ones."""
    theirs = (JETTA / "ticks-BTC-USD-2023-2-20-12.json").read_text()
    quotes = decode_bi5((BI5 / "BTCUSD/2023/01/20/12h_ticks.bi5").read_bytes())
    ours = ticks_json(quotes, 1676894400000, 10)
    end = theirs.index('"askVolumes"')
    assert ours[:end] == theirs[:end]
    assert list(json.loads(ours)) == list(json.loads(theirs))


def test_empty_hours_are_empty_in_both_feeds(simulator: Simulator) -> None:
    assert fetch(simulator, "USDJPY/2016/00/01/00h_ticks.bi5") == (200, b"")
    answer = json.loads(fetch(simulator, "ticks/USD-JPY/2016/1/1/0", "JSON")[1])
    assert (answer["times"], answer["ask"]) == ([], None)
    assert fetch(simulator, "ticks/USD-JPY/2016/1/1/1", "JSON")[0] == 404


def test_derived_minute_candles_equal_the_vendors(simulator: Simulator) -> None:
    """The vendor's own file of 2019-02-04 holds open, close, low, high of each minute."""
    dtype = np.dtype([(n, ">u4") for n in ("s", "open", "close", "low", "high")] + [("volume", ">f4")])
    path = BI5 / "EURUSD/2019/01/04/BID_candles_min_1.bi5"
    theirs = np.frombuffer(lzma.decompress(path.read_bytes()), dtype)
    answer = json.loads(fetch(simulator, "candles/minute/EUR-USD/BID/2019/2/4", "JSON")[1])
    minute = np.cumsum(answer["times"])
    for name in ("open", "high", "low", "close"):
        start = round(answer[name] / answer["multiplier"])
        assert (start + np.cumsum(answer[f"{name}s"])).tolist() == theirs[name][minute].tolist()


def test_invented_hours_are_the_same_every_time_and_in_both_feeds(simulator: Simulator) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=30)
    name = f"BTCUSD/{hour.year}/{hour.month - 1:02d}/{hour.day:02d}/{hour.hour:02d}h_ticks.bi5"
    status, body = fetch(simulator, name)
    assert status == 200
    assert body == invent_hour(11, "BTCUSD", int(hour.timestamp()))
    quotes = decode_bi5(body)
    assert (np.diff(quotes.ms) > 0).all()
    assert (quotes.ask > quotes.bid).all()
    answer = json.loads(fetch(simulator, f"ticks/BTC-USD/{hour:%Y}/{hour.month}/{hour.day}/{hour.hour}", "JSON")[1])
    assert np.cumsum(answer["times"]).tolist() == quotes.ms.tolist()
    running = json.loads(fetch(simulator, f"ticks/BTC-USD?from={simulator.now_ns() // 10**6 - 600_000}", "JSON")[1])
    assert running["times"]
    assert sum(running["times"]) <= 600_000 + 60_000
    next_hour = datetime.now(UTC) + timedelta(hours=1)
    future = f"BTCUSD/{next_hour.year}/{next_hour.month - 1:02d}/{next_hour.day:02d}/{next_hour.hour:02d}h_ticks.bi5"
    assert fetch(simulator, future)[0] == 404


def test_the_bi5_writer_is_the_readers_inverse() -> None:
    original = (BI5 / HOUR).read_bytes()
    again = encode_bi5(decode_bi5(original))
    assert lzma.decompress(again) == lzma.decompress(original)
    assert again[:13] == original[:13]


@pytest.mark.parametrize(
    ("kind", "options", "status"),
    [("404", {}, 404), ("5xx", {}, 503), ("429", {}, 429), ("html", {}, 200), ("empty", {}, 200)],
)
def test_a_fault_strikes_once_and_then_the_hour_is_full(
    simulator: Simulator, kind: str, options: dict[str, Any], status: int
) -> None:
    """Empty, missing, refused or a page of HTML first; the real hour afterwards."""
    full = (BI5 / HOUR).read_bytes()
    simulator.fault(kind, "dukascopy", count=1, endpoint=HOUR, **options)
    assert fetch(simulator, "BTCUSD/2023/01/20/12h_ticks.bi5")[0] == 200
    first = fetch(simulator, HOUR)
    assert first[0] == status
    assert first[1] != full
    assert (kind == "empty") == (first[1] == b"")
    assert (kind == "html") == (first[1][:9] == b"<!DOCTYPE" and status == 200)
    assert fetch(simulator, HOUR) == (200, full)


def test_bodies_that_break_off(simulator: Simulator) -> None:
    simulator.fault("truncated-body", "dukascopy", count=1)
    status, body = fetch(simulator, HOUR)
    assert status == 200
    with pytest.raises((lzma.LZMAError, EOFError)):
        lzma.decompress(body)
    simulator.fault("wrong-length", "dukascopy", count=1)
    with pytest.raises(aiohttp.ClientPayloadError):
        fetch(simulator, HOUR)


def test_a_stall_is_outlasted_only_by_the_patient(simulator: Simulator) -> None:
    async def impatient() -> None:
        url = f"{simulator.environment()['DUKASCOPY_BI5_URL']}/{HOUR}"
        timeout = aiohttp.ClientTimeout(total=0.2)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            await response.read()

    simulator.fault("slow", "dukascopy", count=1)
    with pytest.raises(TimeoutError):
        asyncio.run(impatient())


def test_a_corrected_hour_differs_in_both_feeds_and_only_its_prices(simulator: Simulator) -> None:
    before = decode_bi5(fetch(simulator, "BTCUSD/2023/01/20/12h_ticks.bi5")[1])
    simulator.fault("corrected", "dukascopy", seconds=60)
    after = decode_bi5(fetch(simulator, "BTCUSD/2023/01/20/12h_ticks.bi5")[1])
    assert after.ms.tolist() == before.ms.tolist()
    assert (after.ask - before.ask).tolist() == [1] * len(before.ask)
    answer = json.loads(fetch(simulator, "ticks/BTC-USD/2023/2/20/12", "JSON")[1])
    assert round(answer["ask"] / answer["multiplier"]) == after.ask[0]


def test_the_throttle_refuses_only_above_its_rate(simulator: Simulator) -> None:
    simulator.fault("throttle", "dukascopy", rate=3, seconds=60)
    statuses = [fetch(simulator, "USDJPY/2016/00/01/00h_ticks.bi5")[0] for _ in range(12)]
    assert statuses[:3] == [200] * 3
    assert 503 in statuses


def test_another_folder_of_hours(tmp_path: Path) -> None:
    """The benchmarks' month is not in the repository: a setting points to it."""
    target = tmp_path / "GBPJPY/2012/11/03"
    target.mkdir(parents=True)
    shutil.copy(BI5 / HOUR, target / "10h_ticks.bi5")
    with running_simulator(dukascopy_folder=str(tmp_path)) as running:
        assert fetch(running, "GBPJPY/2012/11/03/10h_ticks.bi5")[1] == (BI5 / HOUR).read_bytes()
        assert fetch(running, "ticks/GBP-JPY/2012/12/3/10", "JSON")[0] == 200
        assert fetch(running, HOUR)[0] == 404
        assert asyncio.run(get(running.environment()["DUKASCOPY_JSON_URL"] + "/instruments/GBP-JPY"))[0] == 200
