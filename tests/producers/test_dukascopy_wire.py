"""Parsing without a network: what the recordings say must come out, and what is none must be refused."""

from __future__ import annotations

import json
import lzma
from decimal import Decimal

import numpy as np
import pytest

from pipeline.core.errors import BadData, WrongAnswer
from producers.dukascopy.candles_check import by_minute, compare
from producers.dukascopy.feeds import bi5
from producers.dukascopy.feeds import json as jetta
from producers.dukascopy.instruments import catalogue
from producers.dukascopy.quotes import NO_QUOTES, decimals_of_units, units_of_millions
from tests.dukascopy_help import BI5, BTC_HOUR, recorded, us


def test_eurusd_hour_equals_another_programs_decode() -> None:
    """A swapped column, a lost row, a size that is not the vendor's decimal."""
    expected = json.loads(recorded("expected/EURUSD-2019-02-04T00-ticks.json"))["expectedOutput"]
    found = bi5.parse_hour(recorded("bi5/" + bi5.hour_path("EURUSD", us("2019-02-04"))))
    assert len(found) == len(expected) == 3_733
    for column, place in (("offset_ms", 0), ("ask", 1), ("bid", 2)):
        assert getattr(found, column).tolist() == [row[place] for row in expected]
    for column, place in (("ask_size", 3), ("bid_size", 4)):
        units = getattr(found, column).astype(float) / 10**found.size_scale
        assert (units / 1e6).astype("f4").tolist() == [row[place] for row in expected]
    assert found.bid_size[0] == 2_060_000  # 2.0599999 in the file


def test_the_bitcoin_hour_is_the_same_in_both_feeds_and_in_another_programs_decode() -> None:
    """Feeds that disagree, so that changing over would rewrite history."""
    expected = json.loads(recorded("expected/btcusd-tick-2023-02-20T12-2023-02-20T13.json"), parse_float=Decimal)
    old = bi5.parse_hour(recorded("bi5/BTCUSD/2023/01/20/12h_ticks.bi5"))
    new = jetta.parse_hour(recorded("jetta/ticks-BTC-USD-2023-2-20-12.json"), BTC_HOUR, 1)
    for found in (old, new):
        assert (found.offset_ms + BTC_HOUR // 1000).tolist() == [row["timestamp"] for row in expected]
        assert found.bid.tolist() == [int(row["bidPrice"] * 10) for row in expected]
        assert found.ask.tolist() == [int(row["askPrice"] * 10) for row in expected]
    assert (old.size_scale, old.bid_size[0], old.bid_size[5]) == (0, 13, 1)
    assert (new.size_scale, new.bid_size[0], new.bid_size[5]) == (2, 1300, 146)


@pytest.mark.parametrize(("symbol", "count"), [("EURUSD", 136_741), ("BTCUSD", 8_523 + 6_193), ("USDJPY", 0)])
def test_all_recorded_hours(symbol: str, count: int) -> None:
    """A file that cannot be read; an empty one taken for an error."""
    hours = [bi5.parse_hour(file.read_bytes()) for file in (BI5 / symbol).rglob("*h_ticks.bi5")]
    assert sum(len(hour) for hour in hours) == count
    assert all((np.diff(hour.offset_ms) > 0).all() and (hour.ask >= hour.bid).all() for hour in hours)


def _damaged() -> list[tuple[str, bytes]]:
    good = recorded("bi5/EURUSD/2019/01/04/00h_ticks.bi5")
    return [
        ("not LZMA", recorded("not-lzma_HistoryStart.bi5")),
        ("web page", b"<!DOCTYPE html><html>Just a moment...</html>"),
        ("cut off", good[: len(good) * 2 // 3]),
        ("last byte missing", good[:-1]),
        ("something behind it", good + b"\0"),
        ("half a record", lzma.compress(b"\0" * 30, format=lzma.FORMAT_ALONE)),
        ("beyond an hour", lzma.compress(b"\xff" * 20, format=lzma.FORMAT_ALONE)),
        ("one byte", b"]"),
    ]


@pytest.mark.parametrize("body", [body for _, body in _damaged()], ids=[name for name, _ in _damaged()])
def test_what_is_no_hour_file_is_refused(body: bytes) -> None:
    """A busy server's page or half a file stored as an hour, or called empty."""
    with pytest.raises(WrongAnswer):
        bi5.parse_hour(body)


@pytest.mark.parametrize(
    "change",
    [
        {"times": [84]},
        {"multiplier": 0.3},
        {"bid": 24849.45},
        {"bids": None},
        {"timestamp": 1676894399000},
        {"bidVolumes": ["a"] * 8523},
        {"asks": [0.5] * 8523},
        {"ask": None},
    ],
)
def test_json_that_is_no_hour_is_refused(change: dict[str, object]) -> None:
    """An hour half understood."""
    data = json.loads(recorded("jetta/ticks-BTC-USD-2023-2-20-12.json")) | change
    with pytest.raises(WrongAnswer):
        jetta.parse_hour(json.dumps(data).encode(), BTC_HOUR, 1)


def test_json_prices_finer_than_our_scale_stop_the_load_and_coarser_ones_are_scaled() -> None:
    """Prices wrong by a power of ten."""
    body = recorded("jetta/ticks-BTC-USD-2023-2-20-12.json")
    with pytest.raises(BadData, match="price_scale"):
        jetta.parse_hour(body, BTC_HOUR, 0)
    assert jetta.parse_hour(body, BTC_HOUR, 3).bid[0] == 24_849_400


@pytest.mark.parametrize(
    "change",
    [
        {"bid": 24849.400000000003},
        {"ask": 24921.499999999996},
        {"multiplier": 0.10000000000000002},
        {"timestamp": 1676894400000.0002},
        {"bid": 24849.44},
    ],
)
def test_binary_noise_of_the_vendors_floats_is_rounded(change: dict[str, object]) -> None:
    """An hour refused because somebody calculated with a double on its way."""
    data = json.loads(recorded("jetta/ticks-BTC-USD-2023-2-20-12.json"))
    data["times"] = [float(time) for time in data["times"]]
    data["bids"] = [delta + 1e-12 for delta in data["bids"]]
    data["askVolumes"] = [size * 1.0000000000000002 for size in data["askVolumes"]]
    found = jetta.parse_hour(json.dumps(data | change).encode(), BTC_HOUR, 1)
    right = jetta.parse_hour(recorded("jetta/ticks-BTC-USD-2023-2-20-12.json"), BTC_HOUR, 1)
    for column in ("offset_ms", "bid", "ask", "bid_size", "ask_size"):
        assert (getattr(found, column) == getattr(right, column)).all()
    assert found.size_scale == right.size_scale


def test_noise_of_a_price_at_five_decimals() -> None:
    """The start price that was seen to refuse whole hours."""
    data = {
        "timestamp": BTC_HOUR // 1000,
        "multiplier": 1e-05,
        "ask": 1.0860400000000001,
        "bid": 1.08603,
        "times": [5],
        "asks": [0],
        "bids": [0],
        "askVolumes": [0.30000000000000004],
        "bidVolumes": [1e-13],
    }
    found = jetta.parse_hour(json.dumps(data).encode(), BTC_HOUR, 5)
    assert (found.ask[0], found.bid[0]) == (108604, 108603)
    assert found.ask_size[0] == 3 * 10 ** (found.size_scale - 1)
    with pytest.raises(WrongAnswer, match=r"1\.086045"):
        jetta.parse_hour(json.dumps(data | {"ask": 1.086045}).encode(), BTC_HOUR, 5)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"17",
        b'"times"',
        b"null",
        b'{"times": null}',
        b'{"times": []}',
        b"[" * 100_000,
        b'{"times":0,"asks":[],"bids":[],"ask":null,"bid":null}',
        b'{"times":[],"asks":[1],"bids":[],"ask":null,"bid":null}',
        b'{"timestamp":1676894400000,"multiplier":0.1,"ask":1,"bid":1,"times":[],"asks":[],"bids":[]}',
        b'{"timestamp":1676894400000,"multiplier":0.1,"ask":1e15,"bid":1,"times":[1],"asks":[9e18],"bids":[1],'
        b'"askVolumes":[1],"bidVolumes":[1]}',
        b'{"timestamp":1676894400000,"multiplier":0.1,"ask":1,"bid":1,"times":[1],"asks":[18446744073709551615],'
        b'"bids":[1],"askVolumes":[1],"bidVolumes":[1]}',
        b'{"timestamp":"1676894400000","multiplier":0.1,"ask":1,"bid":1,"times":[1],"asks":[1],"bids":[1],'
        b'"askVolumes":[1],"bidVolumes":[1]}',
        b'{"a":[' + b"{}," * 1_000_000 + b"{}]}",
    ],
)
def test_json_of_another_shape_is_neither_an_hour_nor_an_empty_one(body: bytes) -> None:
    """An answer taken for an hour without quotes because it lacks them."""
    with pytest.raises(WrongAnswer):
        jetta.parse_hour(body, BTC_HOUR, 1)


def test_sizes_that_cannot_be_summed_in_64_bits_lose_decimals_instead() -> None:
    """Integers that wrapped around."""
    columns, scale = decimals_of_units(np.array([1e9, 1e-10]), np.array([5e10, 0.5]))
    assert columns[1][0] == 5 * 10 ** (10 + scale)
    assert columns[0][0] == 10 ** (9 + scale)
    bad, _ = decimals_of_units(np.array([np.nan, 1.5]), np.array([-1.0, np.inf]))
    assert [column.tolist() for column in bad] == [[-1, 15], [-1, -1]]


def test_a_few_bad_rows_are_left_to_the_writer_and_many_are_damage() -> None:
    """An hour lost with one row of it; a page of noise stored as an hour."""
    rows = np.zeros(200, dtype=[("ms", ">u4"), ("ask", ">u4"), ("bid", ">u4"), ("a", ">f4"), ("b", ">f4")])
    rows["ms"], rows["ask"], rows["bid"], rows["a"] = np.arange(200), 114_003, 114_000, 1.5
    rows["b"][:2] = np.nan
    found = bi5.parse_hour(lzma.compress(rows.tobytes(), format=lzma.FORMAT_ALONE))
    assert (len(found), found.bid_size.tolist().count(-1)) == (200, 2)
    catalogue()["EURUSD"].check_price(found)
    rows["ms"][10] = 3_600_000
    with pytest.raises(WrongAnswer, match="3 of 200 rows"):
        bi5.parse_hour(lzma.compress(rows.tobytes(), format=lzma.FORMAT_ALONE))
    rows["ms"], rows["b"] = np.arange(200), 1.5
    rows["bid"][:3] = 0
    with pytest.raises(WrongAnswer, match="3 of 200 rows"):
        catalogue()["EURUSD"].check_price(bi5.parse_hour(lzma.compress(rows.tobytes(), format=lzma.FORMAT_ALONE)))


@pytest.mark.parametrize("dictionary", [4 << 20, 1 << 30])
def test_a_small_file_that_unpacks_to_gigabytes_is_refused(dictionary: int) -> None:
    """A process that is killed for want of memory by some kilobytes."""
    packer = lzma.LZMACompressor(lzma.FORMAT_ALONE, filters=[{"id": lzma.FILTER_LZMA1, "dict_size": 4 << 20}])
    body = b"".join(packer.compress(bytes(1 << 20)) for _ in range(32)) + packer.flush()
    assert len(body) < 10_000
    body = body[:1] + dictionary.to_bytes(4, "little") + body[5:]
    with pytest.raises(WrongAnswer):
        bi5.parse_hour(body)


def test_an_empty_json_answer_is_an_empty_hour() -> None:
    """Nulls of an hour without a quote taken for damage."""
    body = b'{"timestamp":1,"multiplier":0.1,"ask":null,"bid":null,"times":[],"asks":[],"bids":[]}'
    assert jetta.parse_hour(body, BTC_HOUR, 1) is NO_QUOTES


@pytest.mark.parametrize("text", ["77.77", "2.06", "0.000013", "1234.5", "0.01", "250", "0.00000148"])
def test_sizes_are_the_vendors_decimals(text: str) -> None:
    """Sizes like 77769996.64 units where the vendor meant 77.77 million."""
    beside = np.array([float(text), 0.000016], dtype=np.float32)  # which needs more decimals than most
    assert Decimal(int(units_of_millions(beside)[0])) == Decimal(text) * 10**8


def test_json_sizes_keep_every_digit() -> None:
    """Digits of a size lost by a scale that is fixed."""
    columns, scale = decimals_of_units(np.array([1.48, 13.0]), np.array([1.449e7, 0.125]))
    assert scale == 3
    assert [column.tolist() for column in columns] == [[1480, 13000], [14_490_000_000, 125]]


def test_vendor_candles_of_both_feeds_are_read() -> None:
    """Open, close, low, high in another order than thought."""
    old = by_minute(bi5.parse_minutes(recorded("bi5/EURUSD/2019/01/04/BID_candles_min_1.bi5")))
    assert len(old) == 1440
    assert old[0][:4] == (114543, 114570, 114542, 114569)
    day = us("2026-07-10")
    new = by_minute(jetta.parse_minutes(recorded("jetta/candles-minute-EUR-USD-BID-2026-7-10.json"), day, 5))
    assert (len(new), new[0][:4], max(new)) == (1258, (114331, 114334, 114322, 114324), 1259)
    assert jetta.parse_minutes(recorded("jetta/candles-minute-EUR-USD-BID-2026-7-11-empty.json"), day, 5).size == 0
    changed = old | {3: (1, 2, 3, 4, 5)}
    del changed[7]
    assert [one.minute for one in compare(changed, old)] == [3, 7]
