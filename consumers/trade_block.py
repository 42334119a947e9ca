"""Trades of a batch as columns, for both ways of decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from consumers.validation import Decimals
from pipeline.core.products import TAKER_SIDES
from pipeline.database.copy import Ints
from schemas.records import Hole, TradeRow
from schemas.trade_columns import TradeColumns

_SIDE = {side: i for i, side in enumerate(TAKER_SIDES)}


@dataclass(frozen=True)
class TradeBlock:
    """Columns of trades; `side` is an index in `TAKER_SIDES`."""

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
        """From messages that were decoded one by one. Raises `OverflowError` for a number beyond int64."""
        return cls(
            np.fromiter((row.trade_id for row in rows), np.int64, len(rows)),
            np.fromiter((row.timestamp_us for row in rows), np.int64, len(rows)),
            Decimals.of_texts([row.price for row in rows]),
            Decimals.of_texts([row.quantity for row in rows]),
            np.fromiter((_SIDE[row.taker_side] for row in rows), np.int64, len(rows)),
        )

    @classmethod
    def joined(cls, parts: Sequence[tuple[TradeBlock, int, int]]) -> Self:
        """Concatenate rows `first..end` (end exclusive) of each block."""
        ranges: list[tuple[TradeBlock, int, int]] = []
        for block, first, end in parts:
            if ranges and ranges[-1][0] is block and ranges[-1][2] == first:
                ranges[-1] = block, ranges[-1][1], end
            elif first < end:
                ranges.append((block, first, end))
        if not ranges:
            return cls.of_rows([])
        return cls(
            np.concatenate([block.trade_id[first:end] for block, first, end in ranges]),
            np.concatenate([block.timestamp_us[first:end] for block, first, end in ranges]),
            Decimals.joined([(block.price, slice(first, end)) for block, first, end in ranges]),
            Decimals.joined([(block.quantity, slice(first, end)) for block, first, end in ranges]),
            np.concatenate([block.side[first:end] for block, first, end in ranges]),
        )


@dataclass(slots=True)
class MessageTrades:
    """The content of a trades message: `count` rows of `block` from `first` on, then its claims about ids."""

    names: tuple[str, str, str]
    """Venue, product and asset class."""
    origin: str
    received_at_us: int
    block: TradeBlock
    first: int
    count: int
    holes: Sequence[Hole] = ()

    @property
    def rows(self) -> int:
        """Number of trades and claims; claims are numbered after the trades."""
        return self.count + len(self.holes)
