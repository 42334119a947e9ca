"""Binance's REST and public archive: whatever the archive lacks is asked of REST, and nothing is taken on its word."""

from __future__ import annotations

import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from copy import copy
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from pipeline.core.errors import Refused
from schemas.records import TradeRow
from simulator.testing import Simulator, running_simulator
from venues.binance.parse import archive_path, archive_row
from venues.binance.rest import BinanceRest
from venues.binance.settings import BinanceSettings
from venues.rest.ascending import WORTH_A_FILE
from venues.rest.daily_files import Archive
from venues.trade_walk import Source

# 608 minutes, as the hole of binance-public-data#106; the days lie on both sides of the change of the unit of time.
HOLES = {"BTCUSDT": [["2024-12-31T06:00", 608]]}
PRODUCTS = {"binance": [{"symbol": "BTCUSDT", "rate": 0.5}, {"symbol": "ETHUSDT", "rate": 0.5}]}
Made = Callable[..., BinanceRest]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(seed=31, products=PRODUCTS, binance_archive_holes=HOLES) as running:
        yield running


@pytest.fixture
def rest(simulator: Simulator, tmp_path: Path) -> Iterator[Made]:
    """`rest(api_key=...)`: a client of the simulator."""
    simulator.reset_stats()

    def made(**settings: Any) -> BinanceRest:
        addresses = simulator.environment()
        urls = {name: addresses[f"BINANCE_{name.upper()}"] for name in ("rest_url", "ws_url", "archive_url")}
        return BinanceRest(BinanceSettings(**urls, rest_rate=18, **settings), tmp_path, threading.Event())

    yield made
    simulator.clear()


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def span(source: Source, start: str, end: str, product: str = "BTC-USDT") -> tuple[int, int]:
    return source.first_id_at(product, us(start)), source.first_id_at(product, us(end)) - 1


def walked(source: Source, first: int, last: int, product: str = "BTC-USDT") -> dict[int, TradeRow]:
    """All rows; the pages are checked to overlap, so that no id between two of them is passed by."""
    rows: dict[int, TradeRow] = {}
    for page in source.pages(product, first, last, None, None):
        assert not page.blurred
        assert not rows or page.ids[0] <= max(rows) + 1
        rows |= {row.trade_id: row for row in page.rows}
    return rows


def calls(simulator: Simulator, endpoint: str) -> int:
    asked = simulator.stats()["venues"].get("binance", {})
    return sum(one["requests"] for name, one in asked.items() if endpoint in name)


def test_a_moment_is_found_in_one_call_and_its_trade_is_the_tapes(rest: Made, simulator: Simulator) -> None:
    """Prevents a load that begins or ends at another trade than the one asked for."""
    source = rest()
    first, last = span(source, "2026-11-01T10:00", "2026-11-01T10:05")
    assert calls(simulator, "aggTrades") == 2
    truth = simulator.truth("binance", "BTC-USDT", first - 1, last + 1)
    assert truth[0]["ts_ns"] < us("2026-11-01T10:00") * 1000 <= truth[1]["ts_ns"]
    assert truth[-2]["ts_ns"] < us("2026-11-01T10:05") * 1000 <= truth[-1]["ts_ns"]
    rows = walked(source, first, last)
    for real in truth[1:-1]:
        row = rows[real["id"]]
        assert (row.timestamp_us, row.taker_side) == (real["ts_ns"] // 1000, real["taker_side"])
        assert (float(row.price), float(row.quantity)) == (float(real["price"]), float(real["quantity"]))
    assert first - 1 in rows  # the proof that nothing is missing before the first one
    assert calls(simulator, "archive") == 0  # not worth a file


def test_holes_of_the_archive_are_healed_by_rest(rest: Made, simulator: Simulator) -> None:
    """The archive lacks 608 minutes of a day, and says nothing of it."""
    source = rest()
    first, last = span(source, "2024-12-31T01:00", "2025-01-01T20:00")
    rows = walked(source, first, last)
    assert set(range(first, last + 1)) <= rows.keys()
    truth = {row["id"]: row["ts_ns"] for row in simulator.truth("binance", "BTC-USDT", first, last)}
    change = us("2025-01-01T00:00")
    for number in range(first, last + 1):
        at_us, real_us = rows[number].timestamp_us, truth[number] // 1000
        assert at_us == real_us or (real_us < change and at_us == real_us // 1000 * 1000)
    by_rest = calls(simulator, "historicalTrades")
    assert 17 <= by_rest <= 25  # the hole's 18,000 trades and the ends, out of 77,000
    assert calls(simulator, "archive") == 4  # two days, each with its checksum
    assert simulator.stats()["totals"]["binance"]["violations"] == 0


def test_what_would_come_from_the_archive_is_said(rest: Made, simulator: Simulator) -> None:
    """Prevents an estimate of hours for what is a few files, and one that counts on files that are not there."""
    source = rest()
    first, last = span(source, "2024-12-31T01:00", "2025-01-01T20:00")
    planned = source.planned("BTC-USDT", [(1, 5), (first, last)])
    assert planned is not None
    assert (planned.trades, planned.files, planned.absent) == (last - first + 1, 2, [])
    assert planned.bytes > 500_000
    simulator.fault("404", "binance", count=1, endpoint="2024-12-31.zip")
    fewer = source.planned("BTC-USDT", [(first, last)])
    assert fewer is not None
    assert (fewer.files, fewer.absent) == (1, [date(2024, 12, 31)])
    assert fewer.trades == last - source.first_id_at("BTC-USDT", us("2025-01-01T00:00")) + 1
    assert rest(archive=False).planned("BTC-USDT", [(first, last)]) is None
    assert calls(simulator, "archive") == 4  # nothing is fetched


def test_a_file_is_fetched_in_pieces(rest: Made, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy day has 100 MB, more than one answer may have."""
    monkeypatch.setattr("venues.rest.daily_files.PIECE_BYTES", 200_000)
    source = rest()
    first, last = span(source, "2025-03-01T00:00", "2025-03-01T23:59", "ETH-USDT")
    assert set(range(first, last + 1)) <= walked(source, first, last, "ETH-USDT").keys()
    assert calls(simulator, "archive") > 4
    assert calls(simulator, "historicalTrades") < 25


@pytest.mark.parametrize(("fault", "count"), [("truncated-body", 2), ("404", 1), ("html", 1)])
def test_a_file_that_cannot_be_trusted_is_not_used(
    rest: Made, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, fault: str, count: int
) -> None:
    """A damaged file, one whose checksum is another one (binance-public-data#405), or none: REST has the trades too."""
    source = rest()
    first, last = span(source, "2025-02-01T04:00", "2025-02-01T18:00")
    assert last - first > WORTH_A_FILE
    monkeypatch.setattr("venues.rest.daily_files.ATTEMPTS", 1)
    struck = simulator.faults()["struck"].get(f"binance/{fault}", 0)
    simulator.fault(fault, "binance", count=count, endpoint=".zip")  # its checksum is asked for first
    with capture_logs() as logs:
        rows = walked(source, first, last)
    assert set(range(first, last + 1)) <= rows.keys()
    assert simulator.faults()["struck"][f"binance/{fault}"] - struck == count
    said = [line for line in logs if line.get("text") == "its trades are asked of REST"]
    assert len(said) == 1
    assert calls(simulator, "historicalTrades") >= (last - first) // 1000


def test_a_file_that_is_none_of_trades_ends_and_what_is_not_later_is_left_out(tmp_path: Path) -> None:
    """A file of a gigabyte of the same line would be read to its end for nothing."""
    archive = Archive("binance", "http://127.0.0.1:1", archive_path, archive_row, tmp_path, threading.Event())

    def rows(name: str, *lines: str, after: int = -1) -> list[int]:
        file = tmp_path / name
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("x.csv", "".join(lines))
        return [row.trade_id for row in archive.rows(file, after)]

    line = "{},4.0,12.0,48.0,1735689600123456,False,True\n".format
    heading = "id,price,qty,quote_qty,time,is_buyer_maker,is_best_match\n"
    assert rows("good", heading, line(5), line(6), line(6), line(3), "odd\n", line(7)) == [5, 6, 7]
    assert rows("on", heading, line(4), line(5), line(7), after=5) == [7]
    assert rows("same", *[line(5)] * 5000, line(6)) == [5]
    assert rows("low", *[line(5)] * 5000, line(9), after=8) == []
    assert rows("long", line(5), "9" * 1_000_000, line(6)) == [5]
    (tmp_path / "none").write_bytes(b"no zip")
    assert list(archive.rows(tmp_path / "none")) == []


def test_a_zip_that_is_a_bomb_costs_little_memory(tmp_path: Path) -> None:
    """Prevents: gigabytes of memory for a few megabytes, by a list of a million files, which zipfile reads at once, or
    by a way of packing that it unpacks without a bound."""
    archive = Archive("binance", "http://127.0.0.1:1", archive_path, archive_row, tmp_path, threading.Event())
    listing, packed, at_once = tmp_path / "listing", tmp_path / "packed", 20 << 20
    with zipfile.ZipFile(listing, "w") as many:
        many.writestr("x.csv", "")
        many.filelist = [copy(many.filelist[0]) for _ in range(60_000)]
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_BZIP2) as one:
        one.writestr("x.csv", bytes(200 << 20))
    for bomb in (listing, packed):
        tracemalloc.start()
        try:
            assert list(archive.rows(bomb)) == []
            assert tracemalloc.get_traced_memory()[1] < at_once
        finally:
            tracemalloc.stop()


def test_without_the_archive_all_comes_by_rest(rest: Made, simulator: Simulator) -> None:
    source = rest(archive=False)
    first, last = span(source, "2025-02-02T04:00", "2025-02-02T16:00")
    assert set(range(first, last + 1)) <= walked(source, first, last).keys()
    assert calls(simulator, "archive") == 0


def test_a_symbol_that_is_not_listed_is_refused_by_name(rest: Made, simulator: Simulator) -> None:
    """`BTCU-SDT` is written like BTC-USDT, whose trades would be stored under its name."""
    source = rest()
    with pytest.raises(Refused, match="Binance lists no NOPEUSDT"):
        source.newest_trade("NOPE-USDT")
    with pytest.raises(Refused, match="Binance's BTCUSDT is BTC-USDT; ask for BTC-USDT instead"):
        source.newest_trade("BTCU-SDT")
    source.prepare(["BTC-USDT", "GONE-USDT"])  # one that is not listed costs the other nothing
    assert source.newest_trade("BTC-USDT") > 0
    with pytest.raises(Refused, match="GONEUSDT"):
        source.newest_trade("GONE-USDT")
    assert calls(simulator, "/trades") == 1


def test_a_deployment_that_wants_a_key_says_which_setting(tmp_path: Path) -> None:
    """As Binance did until 2023-08; everything else goes on without."""
    with running_simulator(seed=31, products=PRODUCTS, binance_key_wanted=True) as simulator:
        url = simulator.environment()["BINANCE_REST_URL"]
        without = BinanceRest(BinanceSettings(rest_url=url), tmp_path, threading.Event())
        newest = without.newest_trade("BTC-USDT")
        with pytest.raises(Refused, match="set BINANCE_API_KEY"):
            without.page("BTC-USDT", newest - 5)
        source = BinanceRest(BinanceSettings(rest_url=url, api_key="k"), tmp_path, threading.Event())
        assert newest in source.page("BTC-USDT", newest - 5).ids
