"""Decode the trades of many small messages into columns, with numpy and for all messages at once.

Live messages have one or a few trades, and a writer reads thousands of messages per second. An Avro decoder creates
Python objects for each (`schemas.records.decode_as`: 7 us for a message of one trade, 15 for one of five). Here the
messages are decoded in lockstep: the first field of all of them, then the second, and so on, with a cursor in each
(Avro specification, "Binary Encoding": a record is its fields one after another, numbers are zigzag varints, strings
and arrays start with their length).

Only plain messages are decoded this way: up to `MOST_TRADES` trades in one block, no claims about ids, prices and
quantities of digits and at most one point, 18 digits in all. All others are left to `decode_as`, which handles every
valid encoding and reports invalid ones. A test compares the two on hostile bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.products import ORIGINS, TAKER_SIDES

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MOST_TRADES = 64  # of a message
# Fewer messages than this are faster one by one (measured: 100 us per step, 10 us per message).
LEAST_MESSAGES = 16
MOST_DIGITS = 18  # fit into an int64
_LONGEST_NUMBER = MOST_DIGITS + 1
_LONGEST_NAME = 63
_PAD = bytes(8 + _LONGEST_NUMBER)
_HIGH_BITS = np.uint64(0x8080808080808080)
_POWERS = 10 ** np.arange(MOST_DIGITS + 1, dtype=np.int64)


@dataclass(frozen=True)
class PlainDecimals:
    """Decimals as integers: `units / 10 ** decimals`, with as many decimals as were written."""

    units: Ints
    decimals: Ints


@dataclass(frozen=True)
class TradeColumns:
    """Result of `read_columns`. Arrays of messages have the length of the input; arrays of trades have one element per
    trade of the `plain` messages, in the order of the messages."""

    plain: Flags
    """Messages: whether it was decoded. Otherwise its elements of the other arrays are undefined."""

    names: list[bytes]
    """Messages: the bytes of venue, product and asset class, for `names_in`; none if it was not decoded."""

    origin: Ints
    """Messages: index in `ORIGINS`."""

    received_at_us: Ints
    count: Ints
    """Messages: number of trades."""

    message: Ints
    """Trades: index of their message."""

    trade_id: Ints
    timestamp_us: Ints
    price: PlainDecimals
    quantity: PlainDecimals
    side: Ints
    """Trades: index in `TAKER_SIDES`."""


def names_in(header: bytes) -> tuple[str, str, str]:
    """Decode venue, product and asset class from an element of `TradeColumns.names`. Raises `UnicodeDecodeError`."""
    found, at = [], 0
    for _ in range(3):
        length = header[at] >> 1  # names are short: their length is one byte
        found.append(header[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return found[0], found[1], found[2]


def read_columns(messages: Sequence[bytes]) -> TradeColumns:
    """Decode the plain messages; the others are marked. Never raises, whatever the bytes."""
    cursor = _Cursor(messages)
    begin = cursor.at.copy()
    for _ in range(3):
        cursor.name()
    names = [data[:end] for data, end in zip(messages, (cursor.at - begin).tolist(), strict=True)]
    origin = cursor.number()
    received_at_us = cursor.number()
    count = cursor.number()
    cursor.good &= (origin >= 0) & (origin < len(ORIGINS)) & (count >= 1) & (count <= MOST_TRADES)
    rows: list[_Rows] = []
    for number in range(MOST_TRADES):
        chosen = np.flatnonzero(cursor.good & (count > number))
        if len(chosen) < LEAST_MESSAGES:
            cursor.good[chosen] = False
            break
        rows.append(_Rows.read(cursor, chosen, number))
    end_of_trades, holes = cursor.number(), cursor.number()
    plain = cursor.good & (end_of_trades == 0) & (holes == 0) & (cursor.at == cursor.ends)
    if not plain.all():
        names = [header if good else b"" for header, good in zip(names, plain.tolist(), strict=True)]
    return _in_order(rows, plain, names, origin, received_at_us, np.where(plain, count, 0))


class _Cursor:
    """A position in each message. `good` messages are valid so far; the position of the others is undefined."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        assert sys.byteorder == "little"
        text = b"".join([*messages, _PAD])
        lengths = np.fromiter(map(len, messages), np.int64, len(messages))
        self.ends: Ints = np.cumsum(lengths)
        self.at: Ints = self.ends - lengths
        self.good: Flags = np.ones(len(messages), dtype=bool)
        self.bytes = np.frombuffer(text, dtype=np.uint8)
        # The eight bytes starting at each byte, as a number.
        self._words: npt.NDArray[np.uint64] = np.ndarray(len(text) - 7, dtype=np.uint64, buffer=text, strides=(1,))

    def part(self, chosen: Ints) -> _Cursor:
        """Return a cursor over the chosen messages; `put` writes its progress back."""
        made: _Cursor = object.__new__(_Cursor)
        made.bytes, made._words = self.bytes, self._words
        made.ends, made.at, made.good = self.ends[chosen], self.at[chosen], self.good[chosen]
        return made

    def put(self, chosen: Ints, part: _Cursor) -> None:
        """Write the progress of `part` back."""
        self.at[chosen], self.good[chosen] = part.at, part.good

    def number(self) -> Ints:
        """Decode the next number of each message: a varint of at most eight bytes."""
        word = self._words.take(self.at)
        stops = ~word & _HIGH_BITS
        lowest = stops & (~stops + np.uint64(1))  # the high bit of the varint's last byte; 0: it is longer
        below = lowest - np.uint64(1)
        length = (np.bitwise_count(below).astype(np.int64) + 1) >> 3
        self.good &= (lowest != 0) & (self.at + length <= self.ends)
        self.at = np.where(self.good, self.at + length, 0)
        # Seven bits of each byte, moved together in three steps.
        word &= below & ~_HIGH_BITS
        word = word & np.uint64(0x007F007F007F007F) | (word & np.uint64(0x7F007F007F007F00)) >> np.uint64(1)
        word = word & np.uint64(0x00003FFF00003FFF) | (word & np.uint64(0x3FFF00003FFF0000)) >> np.uint64(2)
        word = word & np.uint64(0x000000000FFFFFFF) | (word & np.uint64(0x0FFFFFFF00000000)) >> np.uint64(4)
        half = (word >> np.uint64(1)).view(np.int64)
        return half ^ -(word & np.uint64(1)).view(np.int64)

    def name(self) -> None:
        """Skip a string of at most 63 bytes, so that its length is one byte."""
        before = self.at
        length = self.number()
        self.good &= self.at == before + 1
        self._skip(length, length <= _LONGEST_NAME)

    def decimal(self) -> PlainDecimals:
        """Decode the next string of each message, a plain decimal."""
        length = self.number()
        begin = self.at
        self._skip(length, length <= _LONGEST_NUMBER)
        begin = np.where(self.good, begin, 0)
        length = np.where(self.good, length, 0)
        units = np.zeros(len(begin), dtype=np.int64)
        decimals = np.zeros(len(begin), dtype=np.int64)
        digits = np.zeros(len(begin), dtype=np.int64)
        points = np.zeros(len(begin), dtype=np.int64)
        for offset in range(int(length.max(initial=0))):
            digit = self.bytes.take(begin + offset) - np.uint8(ord("0"))
            inside = length > offset
            is_digit = (digit <= 9) & inside
            points += (digit == (ord(".") - ord("0")) % 256) & inside
            np.copyto(units, units * 10 + digit, where=is_digit)
            digits += is_digit
            decimals += is_digit & (points > 0)
        # Every byte is a digit or the one point, and there are digits on both sides of it.
        self.good &= (digits + points == length) & (points <= 1) & (digits <= MOST_DIGITS)
        self.good &= (digits > decimals) & (decimals >= points) & (digits - decimals <= 16)
        return PlainDecimals(units, decimals)

    def _skip(self, length: Ints, fits: Flags) -> None:
        """Move past `length` bytes; a message whose length does not fit is no longer good."""
        self.good &= (length >= 0) & fits & (self.at + length <= self.ends)
        self.at = np.where(self.good, self.at + length, 0)


@dataclass(frozen=True)
class _Rows:
    """The n-th trade of each of some messages."""

    message: Ints
    number: int
    trade_id: Ints
    timestamp_us: Ints
    price: PlainDecimals
    quantity: PlainDecimals
    side: Ints

    @classmethod
    def read(cls, cursor: _Cursor, chosen: Ints, number: int) -> _Rows:
        part = cursor.part(chosen)
        made = cls(chosen, number, part.number(), part.number(), part.decimal(), part.decimal(), part.number())
        part.good &= (made.side >= 0) & (made.side < len(TAKER_SIDES))
        cursor.put(chosen, part)
        return made


def _in_order(
    rows: Sequence[_Rows], plain: Flags, names: list[bytes], origin: Ints, received_at_us: Ints, count: Ints
) -> TradeColumns:
    """Order the trades by message, omitting those of messages that are not plain."""
    first = np.cumsum(count) - count
    kept = [plain[one.message] for one in rows]
    places = [first[one.message[keep]] + one.number for one, keep in zip(rows, kept, strict=True)]

    def column(parts: Sequence[Any]) -> Ints:
        made = np.empty(int(count.sum()), dtype=np.int64)
        for part, keep, place in zip(parts, kept, places, strict=True):
            made[place] = part[keep]
        return made

    return TradeColumns(
        plain=plain,
        names=names,
        origin=origin,
        received_at_us=received_at_us,
        count=count,
        message=np.repeat(np.arange(len(names)), count),
        trade_id=column([one.trade_id for one in rows]),
        timestamp_us=column([one.timestamp_us for one in rows]),
        price=PlainDecimals(column([one.price.units for one in rows]), column([one.price.decimals for one in rows])),
        quantity=PlainDecimals(
            column([one.quantity.units for one in rows]), column([one.quantity.decimals for one in rows])
        ),
        side=column([one.side for one in rows]),
    )
