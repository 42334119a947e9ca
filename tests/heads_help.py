"""What tests of heads share: trades that are stored, heads as they are written, and the gap filler's part for them."""

from __future__ import annotations

import threading
from concurrent.futures import wait
from typing import Any, cast

from consumers.gap_filler.heads import Heads
from consumers.trades import Trades
from pipeline.database.ledger import Head, Ledger
from tests.messages import received, store, trade, trades_record
from venues.adapter import Proof


def put(conn: Any, ids: range, **more: Any) -> None:
    store(Trades(), conn, [received("trades", trades_record([trade(i) for i in ids], **more))])


def head(
    newest: int, *, settled: int | None = None, seen_s: float = 0.0, checked_s: float = 0.0, from_id: int = 1
) -> Head:
    settled = newest if settled is None else settled
    return Head("kraken", "BTC-USD", "crypto", from_id, newest, settled, seen_s, checked_s, "stream", Proof.IDS)


def claim(conn: Any) -> tuple[Any, ...]:
    row = conn.execute("SELECT rows, missing, explained, share_complete::float FROM completeness").fetchone()
    assert row is not None
    return tuple(row)


class Rest:
    """A source of the heads that knows one number."""

    venue, calls_per_s = "kraken", 1.0

    def __init__(self) -> None:
        self.newest = 90

    def newest_trade(self, _product: str) -> int:
        return self.newest


class Deaf:
    """The gap filler's heads, deaf to the broker. `clock` is theirs, in seconds."""

    def __init__(self) -> None:
        self.clock = 1000.0
        self.rest = Rest()
        self.heads = Heads([cast(Any, self.rest)], cast(Any, None), [], threading.Event())
        self.heads._open_reader_at = float("inf")

    def __call__(self, ledger: Ledger, after_s: float, *said: tuple[int, int], product: str = "BTC-USD") -> None:
        """Receive these heads, if any, and poll after these seconds."""
        self.clock += after_s
        for first, newest in said:
            record = {"venue": "kraken", "product_id": product, "asset_class": "crypto"}
            self.heads._reports.append(({**record, "from_id": first, "newest_id": newest}, self.clock, self.clock))
        self.heads.poll(ledger)
        wait(self.heads._asking.values())
