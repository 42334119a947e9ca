"""Trades read for all messages at once are what a decoder reads one by one."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.core.products import ORIGINS, TAKER_SIDES
from schemas import definition, encode
from schemas.records import Hole, TradeRow, TradesMessage, decode_as
from schemas.trade_columns import LEAST_MESSAGES, PlainDecimals, names_in, read_columns
from tests.messages import T0_US

plain_number = st.from_regex(r"\A[0-9]{1,9}(\.[0-9]{1,9})?\Z")
trade = st.builds(
    TradeRow,
    trade_id=st.integers(0, 1 << 54),
    timestamp_us=st.integers(0, 1 << 54),
    price=plain_number,
    quantity=plain_number,
    taker_side=st.sampled_from(TAKER_SIDES),
)
odd_trade = st.builds(
    TradeRow,
    trade_id=st.integers(-(1 << 63), (1 << 63) - 1),
    timestamp_us=st.integers(-(1 << 63), (1 << 63) - 1),
    price=st.text(max_size=40) | plain_number,
    quantity=st.sampled_from(["1e-7", "-1", "NaN", "", ".", "1.", ".5", "1.2.3", "12345678901234567890", "0.1 ", "\0"]),
    taker_side=st.sampled_from(TAKER_SIDES),
)
hole = st.builds(Hole, st.integers(0, 9), st.integers(0, 9), st.text(max_size=9), st.integers(0, 9))


def message(trades: list[TradeRow], holes: list[Hole] | None = None, **more: Any) -> TradesMessage:
    fields = {"venue": "kraken", "product_id": "BTC-USD", "asset_class": "crypto", "origin": "live"} | more
    return TradesMessage(received_at_us=T0_US, trades=trades, holes=holes or [], **fields)


def bytes_of(one: TradesMessage) -> bytes:
    return encode("trades", one)


GOOD = bytes_of(message([TradeRow(1, T0_US, "100.5", "0.25", "buy")]))
THREE = bytes_of(message([TradeRow(n, T0_US, "100.5", "0.25", "sell") for n in range(3)]))


def text_of(value: PlainDecimals, row: int) -> str:
    units, decimals = int(value.units[row]), int(value.decimals[row])
    whole, fraction = divmod(units, 10**decimals)
    return f"{whole}.{fraction:0{decimals}}" if decimals else str(whole)


def same(given: str, read: str) -> bool:
    """The same number with as many decimals; only zeros before it are not kept."""
    return Decimal(given) == Decimal(read) and given.partition(".")[2] == read.partition(".")[2]


def compare(datas: list[bytes]) -> list[bool]:
    """Every message that was read is what the decoder says; which ones were read."""
    columns = read_columns(datas)
    row, understood = 0, []
    for number, data in enumerate(datas):
        understood.append(False)
        if not columns.plain[number]:
            continue
        try:
            names = names_in(columns.names[number])
        except UnicodeDecodeError:  # the writer leaves it to the decoder, too
            row += int(columns.count[number])
            continue
        understood[-1] = True
        record = decode_as(TradesMessage, data)  # raises where it is none
        assert names == (record.venue, record.product_id, record.asset_class)
        assert ORIGINS[columns.origin[number]] == record.origin
        assert (columns.received_at_us[number], record.holes) == (record.received_at_us, [])
        assert columns.count[number] == len(record.trades)
        for one in record.trades:
            assert columns.message[row] == number
            assert (columns.trade_id[row], columns.timestamp_us[row]) == (one.trade_id, one.timestamp_us)
            assert same(one.price, text_of(columns.price, row))
            assert same(one.quantity, text_of(columns.quantity, row))
            assert TAKER_SIDES[columns.side[row]] == one.taker_side
            row += 1
    assert row == len(columns.trade_id) == len(columns.side) == len(columns.price.units)
    return understood


@settings(suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(st.lists(st.lists(trade, min_size=1, max_size=3), min_size=1, max_size=5))
def test_plain_messages_are_read_as_the_decoder_reads_them(made: list[list[TradeRow]]) -> None:
    """A wrong digit here would be a wrong price in the table, without an error."""
    datas = [bytes_of(message(trades)) for trades in made]
    assert all(compare([*datas, *[THREE] * LEAST_MESSAGES]))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(odd_trade | trade, max_size=3), max_size=5), st.lists(hole, max_size=2))
def test_what_is_not_plain_is_left_to_the_decoder(made: list[list[TradeRow]], holes: list[Hole]) -> None:
    """What was read otherwise than the decoder reads it would be stored though a rule refuses it."""
    datas = [bytes_of(message(trades, holes)) for trades in made]
    assert all(compare([*datas, *[GOOD] * LEAST_MESSAGES])[len(datas) :])


@given(st.lists(st.binary(max_size=120), max_size=20))
@example([b"\x80" * 60, b"\xff" * 9 + b"\x01", b"", GOOD + b"\0", GOOD[:-1]])
def test_hostile_bytes_cost_nobody_else(datas: list[bytes]) -> None:
    """A message that is none must not move the cursor of its neighbours, nor raise."""
    read = compare([datas[0] if datas else b"", *[GOOD] * LEAST_MESSAGES, *datas[1:]])
    assert all(read[1 : 1 + LEAST_MESSAGES])


def test_every_message_with_one_byte_changed() -> None:
    """Prevents a field that is skipped without a look: each byte of a message means something."""
    dice = random.Random(5)
    spoilt = []
    for at in range(len(GOOD)):
        data = bytearray(GOOD)
        data[at] = dice.choice([b for b in range(256) if b != data[at]])
        spoilt.append(bytes(data))
    compare([*spoilt, *[GOOD] * LEAST_MESSAGES])


@pytest.mark.parametrize("count", [1, LEAST_MESSAGES - 1])
def test_too_few_messages_are_left_to_the_decoder(count: int) -> None:
    assert compare([GOOD] * count) == [False] * count


def test_symbols_of_the_enums_stand_in_the_order_of_the_schema() -> None:
    """The columns hold their numbers."""
    fields = {field["name"]: field for field in definition("trades")["fields"]}
    assert tuple(fields["origin"]["type"]["symbols"]) == ORIGINS
    side = fields["trades"]["type"]["items"]["fields"][-1]
    assert tuple(side["type"]["symbols"]) == TAKER_SIDES
