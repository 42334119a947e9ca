"""Trades of the simulator's tape as records, for measurements that need no venue."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from pipeline.core.runtime import now_us
from schemas.records import TradeRow, TradesMessage
from simulator.market import product_from
from simulator.tape import Tape


def tape(number: int, rate: float = 50.0) -> Tape:
    """The tape of one invented product."""
    return Tape(product_from("kraken", {"symbol": f"{symbol(number)}/USD", "rate": rate}), seed=7)


def symbol(number: int) -> str:
    return "B" + chr(65 + number // 26) + chr(65 + number % 26)


def trades(number: int, count: int) -> Iterator[TradeRow]:
    """`count` trades of product `number`, which end now."""
    source = tape(number)
    last = source.last_id_at(now_us() * 1000)
    decimals = source.product.price_decimals, source.product.quantity_decimals
    step = 20_000
    for first_id in range(last - count + 1, last + 1, step):
        rows = source.trades(first_id, min(last, first_id + step - 1))
        for i in range(len(rows)):
            yield TradeRow(
                trade_id=int(rows.ids[i]),
                timestamp_us=int(rows.ts_ns[i]) // 1000,
                price=plain(int(rows.price[i]), decimals[0]),
                quantity=plain(int(rows.quantity[i]), decimals[1]),
                taker_side="buy" if rows.buy[i] else "sell",
            )


def plain(value: int, decimals: int) -> str:
    whole, rest = divmod(value, 10**decimals)
    return f"{whole}.{rest:0{decimals}}" if decimals else str(whole)


def messages(number: int, count: int, per_message: int) -> Iterator[TradesMessage]:
    """The same in messages."""
    source = trades(number, count)
    while chunk := list(itertools.islice(source, per_message)):
        yield TradesMessage("kraken", f"{symbol(number)}-USD", "crypto", "history", now_us(), chunk)
