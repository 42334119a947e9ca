"""The tape must be one function of seed, product and time: else a judge would compare against a moving truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.candles import candles
from simulator.config import Config, ConfigError
from simulator.faults import FaultBoard, FaultError
from simulator.market import MARKET_START_NS, SECOND_NS, default_products, load_products, product_from
from simulator.stream import FrameSource
from simulator.tape import Edits, Tape, fixed, trimmed
from simulator.world import World

NOW_NS = 1_795_255_000 * SECOND_NS
PRODUCT = default_products("kraken")[0]
VENUES = ("kraken", "coinbase", "binance")


@given(st.integers(MARKET_START_NS, NOW_NS), st.integers(1, 400))
def test_any_stretch_read_alone_equals_the_same_stretch_of_a_longer_read(at_ns: int, count: int) -> None:
    """Random access that depended on where reading began would make REST and WebSocket disagree."""
    tape = Tape(PRODUCT, 5)
    last = tape.last_id_at(at_ns)
    long = tape.trades(last - 1000, last + 1000).rows()
    part = Tape(PRODUCT, 5).trades(last - count, last + count).rows()
    wanted = [row for row in long if last - count <= row.trade_id <= last + count]
    assert part == wanted
    assert all(row.ts_ns <= at_ns for row in part if row.trade_id <= last)
    assert all(row.ts_ns > at_ns for row in part if row.trade_id > last)


@pytest.mark.parametrize("venue", VENUES)
def test_ids_are_contiguous_and_times_never_fall(venue: str) -> None:
    for product in default_products(venue):
        trades = Tape(product, 3).trades(1, 5000)
        assert trades.ids.tolist() == list(range(1, 5001))
        assert (np.diff(trades.ts_ns) >= 0).all()
        assert (trades.price > 0).all()
        assert (trades.quantity > 0).all()
        assert (trades.ts_ns % product.time_step_ns == 0).all()


def test_some_trades_share_a_nanosecond_and_some_frames_hold_several_trades() -> None:
    """A tape without these would let a writer pass that takes the time for an identity."""
    trades = Tape(PRODUCT, 3).trades(1, 5000)
    assert (np.diff(trades.ts_ns) == 0).any()
    assert set(np.unique(trades.order, return_counts=True)[1].tolist()) == {1, 2, 3, 4, 5}


def test_another_seed_is_another_market_and_two_venues_stay_near() -> None:
    ours, other = Tape(PRODUCT, 1).trades(1, 500), Tape(PRODUCT, 2).trades(1, 500)
    assert ours.price.tolist() != other.price.tolist()
    coinbase = Tape(default_products("coinbase")[0], 1)
    kraken_bid = Tape(PRODUCT, 1).bid_ask(NOW_NS)[0] / 10
    coinbase_bid = coinbase.bid_ask(NOW_NS)[0] / 100
    assert abs(kraken_bid / coinbase_bid - 1) < 0.001


def test_a_hole_takes_its_ids_out_of_every_read() -> None:
    tape = Tape(PRODUCT, 1)
    hole = tape.add_hole(100, 7)
    assert (hole.first_id, hole.last_id) == (101, 107)
    assert tape.trades(99, 110).ids.tolist() == [99, 100, 108, 109, 110]
    assert len(tape.trades(101, 107)) == 0


def test_a_burst_adds_trades_inside_one_second_and_shifts_the_later_ids() -> None:
    """Ids must stay contiguous and times ordered, also for two bursts, or REST by time would lose trades."""
    tape, plain = Tape(PRODUCT, 1), Tape(PRODUCT, 1)
    first, second = tape.add_burst(NOW_NS, 1500), tape.add_burst(NOW_NS + SECOND_NS, 1200)
    before = plain.last_id_at(NOW_NS) - 50
    trades = tape.trades(before, before + 6000)
    assert (np.diff(trades.ids) == 1).all()
    assert (np.diff(trades.ts_ns) >= 0).all()
    for burst in (first, second):
        inside = (trades.ts_ns >= burst.start_ns) & (trades.ts_ns < burst.start_ns + SECOND_NS)
        assert inside.sum() >= burst.count
    shifted = plain.trades(before + 3000, before + 3300)
    moved = tape.trades(before + 5700, before + 6000)
    assert moved.ts_ns.tolist() == shifted.ts_ns.tolist()
    for at_ns in trades.ts_ns[::97].tolist():
        last = tape.last_id_at(at_ns)
        assert tape.trades(last, last).ts_ns[0] <= at_ns < tape.trades(last + 1, last + 1).ts_ns[0]
    copy = Tape(PRODUCT, 1, Edits.from_json(tape.edits.as_json()))
    assert copy.trades(before, before + 6000).rows() == trades.rows()


def test_candles_agree_with_the_trades_they_are_made_of() -> None:
    tape = Tape(PRODUCT, 1)
    start_s = NOW_NS // SECOND_NS // 3600 * 3600
    made = candles(tape, start_s, start_s + 7200, 60, NOW_NS + 10**15)
    assert len(made) == 120
    for candle in made[::17]:
        first = tape.last_id_at(candle.start_s * SECOND_NS - 1) + 1
        rows = tape.trades(first, tape.last_id_at((candle.start_s + 60) * SECOND_NS - 1)).rows()
        assert (candle.open, candle.close, candle.trades) == (rows[0].price, rows[-1].price, len(rows))
        assert candle.high == max(row.price for row in rows)
        assert candle.low == min(row.price for row in rows)
        assert candle.volume == sum(row.quantity for row in rows)


def test_numbers_are_written_exactly() -> None:
    assert (fixed(44780, 8), fixed(840984, 1), fixed(7, 0)) == ("0.00044780", "84098.4", "7")
    assert (trimmed(218600, 8), trimmed(6508367, 2), trimmed(12_629_600, 2), trimmed(5, 0)) == (
        "0.002186",
        "65083.67",
        "126296",
        "5",
    )


def test_the_load_market_has_the_promised_frames() -> None:
    """A load test that got fewer or smaller frames than it asked for would flatter its result."""
    products = load_products("kraken", 1000)
    orders = trades = 0
    for product in products:
        tape = Tape(product, 1)
        rows = tape.trades(tape.last_id_at(NOW_NS), tape.last_id_at(NOW_NS + 10 * SECOND_NS))
        orders += len(np.unique(rows.order))
        trades += len(rows)
    assert len(products) == 10
    assert 8000 < orders < 12000
    assert 2.4 < trades / orders < 3.6


def test_a_wrong_setting_or_fault_is_named() -> None:
    with pytest.raises(ConfigError, match="Unknown setting sead"):
        Config.load(None, sead=3)
    board = FaultBoard(1)
    with pytest.raises(FaultError, match="Unknown fault 'explode'"):
        board.add("explode", "kraken", {})
    with pytest.raises(FaultError, match="Unknown venue 'mtgox'"):
        board.add("cut", "mtgox", {})
    with pytest.raises(FaultError, match="Unknown option secs"):
        board.add("cut", "kraken", {"secs": 3})


def test_a_fault_ends_by_count_and_by_product() -> None:
    """A fault without an end would hold a judge's run open for ever."""
    board = FaultBoard(1)
    board.add("drop", "kraken", {"count": 2, "products": ["BTC/USD"]})
    assert board.take("kraken", "drop", "ETH/USD") is None
    assert [board.take("kraken", "drop", "BTC/USD") is not None for _ in range(4)] == [True, True, False, False]
    board.add("silence", "kraken", {"seconds": 0})
    assert board.active("kraken", "silence") is None


def test_a_product_of_ones_own() -> None:
    product = product_from("kraken", {"symbol": "XYZ/EUR", "rate": 7, "level": 3.0, "fills": [1.0]})
    assert (product.canonical, product.rate, product.price_decimals) == ("XYZ-EUR", 7, 2)
    assert len(set(Tape(product, 1).trades(1, 64).order.tolist())) == 64


def test_a_clock_set_back_takes_back_no_trade(tmp_path: Path) -> None:
    """Prevents: a venue that forgets what it published, as none does, and ids that come twice with other times."""
    config = Config(seed=1, clock_offset_s=-3600.0, state_path=str(tmp_path / "state"))
    world = World(config)
    tape = world.find("kraken", "BTC-USD")
    source = FrameSource(world, tape)
    source.due(world.now_ns())
    newest = tape.last_id_at(world.published_until_ns())
    world.change_tape(world.faults.add("clock", "kraken", {"jump": -30}))
    for one in (world, World(config)):
        assert one.now_ns() < world.published_until_ns() - 29 * SECOND_NS
        assert tape.last_id_at(one.visible_until_ns("kraken")) >= newest
        assert one.find("kraken", "BTC-USD").trades(newest, newest).rows() == tape.trades(newest, newest).rows()
    assert source.due(world.now_ns()) == []
    caught_up = world.published_until_ns() + 5 * SECOND_NS
    ids = [trade.trade_id for order in source.due(caught_up) for trade in order]
    assert ids == list(range(ids[0], tape.last_id_at(caught_up) + 1))
    assert ids[0] <= newest + 1
