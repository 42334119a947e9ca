"""Trades of many messages as columns: as decoded together, and as the parts of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Self

import numpy as np
from msgspec import Struct

from consumers.sink import MessageSlice
from consumers.validation import Decimals
from pipeline.core.products import ORIGINS, TAKER_SIDES
from pipeline.database.copy import Ints
from schemas.records import Hole, TradeRow, TradesMessage
from schemas.trade_columns import TradeColumns

Names = tuple[str, str, str]
"""Venue, product and asset class."""
_SIDE = {side: i for i, side in enumerate(TAKER_SIDES)}
_ORIGIN = {origin: i for i, origin in enumerate(ORIGINS)}


@dataclass(frozen=True)
class TradeList:
    """Columns of trades; `side` is an index into `TAKER_SIDES`."""

    trade_id: Ints
    timestamp_us: Ints
    price: Decimals
    quantity: Decimals
    side: Ints

    def __len__(self) -> int:
        return len(self.trade_id)

    @classmethod
    def of_columns(cls, columns: TradeColumns) -> Self:
        """From messages that were decoded in lockstep."""
        price, quantity = Decimals.of_units(columns.price), Decimals.of_units(columns.quantity)
        return cls(columns.trade_id, columns.timestamp_us, price, quantity, columns.side)

    @classmethod
    def of_rows(cls, rows: Sequence[TradeRow]) -> Self:
        return cls(
            np.fromiter((row.trade_id for row in rows), np.int64, len(rows)),
            np.fromiter((row.timestamp_us for row in rows), np.int64, len(rows)),
            Decimals.of_texts([row.price for row in rows]),
            Decimals.of_texts([row.quantity for row in rows]),
            np.fromiter((_SIDE[row.taker_side] for row in rows), np.int64, len(rows)),
        )

    @classmethod
    def joined(cls, parts: Sequence[tuple[TradeList, Ints]]) -> Self:
        """Concatenate the given rows of each list."""
        if not parts:
            return cls.of_rows([])
        return cls(
            np.concatenate([trades.trade_id[rows] for trades, rows in parts]),
            np.concatenate([trades.timestamp_us[rows] for trades, rows in parts]),
            Decimals.joined([(trades.price, rows) for trades, rows in parts]),
            Decimals.joined([(trades.quantity, rows) for trades, rows in parts]),
            np.concatenate([trades.side[rows] for trades, rows in parts]),
        )


@dataclass(frozen=True)
class TradeBlock:
    """Messages that were decoded together, or parts of messages.

    `trades` has all their trades, in order; the other columns have one value per message or part.
    """

    trades: TradeList
    count: Ints
    """Number of trades."""
    names: list[Names]
    """The names that occur; `name` is an index into it."""
    name: Ints
    origin: Ints
    """Index into `ORIGINS`."""
    received_at_us: Ints

    @cached_property
    def first(self) -> Ints:
        """Row in `trades` of the first trade."""
        return np.cumsum(self.count) - self.count

    @classmethod
    def of_columns(cls, columns: TradeColumns, names: list[Names], name: Ints) -> Self:
        trades = TradeList.of_columns(columns)
        return cls(trades, columns.count, names, name, columns.origin, columns.received_at_us)

    @classmethod
    def of_records(cls, records: Sequence[TradesMessage]) -> Self:
        """From messages that were decoded one by one."""
        place: dict[Names, int] = {}
        name = [place.setdefault(one.names, len(place)) for one in records]
        return cls(
            TradeList.of_rows([row for record in records for row in record.trades]),
            np.array([one.count for one in records]),
            list(place),
            np.array(name, dtype=np.int64),
            np.array([_ORIGIN[record.origin] for record in records]),
            np.array([record.received_at_us for record in records]),
        )

    @classmethod
    def of_parts(cls, parts: Sequence[MessageSlice]) -> TradeBlock:
        """Gather the parts of a batch. Consecutive parts of one block are gathered at once."""
        records = [part.record for part in parts if isinstance(part.record, TradesMessage)]
        fresh = map(MessageTrades, repeat(cls.of_records(records)), range(len(records)))
        contents = [next(fresh) if isinstance(part.record, TradesMessage) else part.record for part in parts]
        if contents and contents[0].block._matches(contents, parts):
            return contents[0].block
        groups: list[tuple[TradeBlock, list[int], list[int], list[int]]] = []
        block: TradeBlock | None = None
        for part, content in zip(parts, contents, strict=True):
            if content.block is not block:
                block = content.block
                numbers, first, end = [], [], []  # type: list[int], list[int], list[int]
                groups.append((block, numbers, first, end))
            numbers.append(content.number)
            first.append(part.first)
            end.append(part.end)
        place: dict[Names, int] = {}
        taken: list[tuple[TradeList, Ints]] = []
        columns: list[tuple[Ints, ...]] = []
        for block, *of_parts in groups:
            number, low, high = map(np.array, of_parts)
            low, high = (np.minimum(bound, block.count[number]) for bound in (low, high))
            count = high - low
            start = block.first[number] + low - (np.cumsum(count) - count)
            taken.append((block.trades, np.repeat(start, count) + np.arange(int(count.sum()))))
            used, name = np.unique(block.name[number], return_inverse=True)
            places = np.array([place.setdefault(block.names[one], len(place)) for one in used])
            columns.append((count, places[name], block.origin[number], block.received_at_us[number]))
        if not columns:
            columns = [(np.zeros(0, dtype=np.int64),) * 4]
        count, name, origin, received_us = map(np.concatenate, zip(*columns, strict=True))
        return cls(TradeList.joined(taken), count, list(place), name, origin, received_us)

    def _matches(self, contents: Sequence[MessageTrades], parts: Sequence[MessageSlice]) -> bool:
        """Return whether these are all messages of this block, in order and undivided, so that it can be used as it is.

        Not if a name occurs twice in `names`, which happens because Avro can encode a header in more than one way.
        """
        return (
            len(parts) == len(self.count)
            and len(set(self.names)) == len(self.names)
            and all(
                content.block is self and content.number == number and not part.first and part.end >= count
                for number, (content, part, count) in enumerate(zip(contents, parts, self.count.tolist(), strict=True))
            )
        )


class MessageTrades(Struct, gc=False):
    """The content of a plain trades message, without findings: message `number` of `block`. Other messages are decoded
    into a `TradesMessage`."""

    block: TradeBlock
    number: int
    holes: Sequence[Hole] = ()

    @property
    def count(self) -> int:
        """Number of trades."""
        return int(self.block.count[self.number])

    @property
    def names(self) -> Names:
        return self.block.names[int(self.block.name[self.number])]
